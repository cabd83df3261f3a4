//! Estimates what it costs to parse HCL, so that no text costs more than its size allows.
//!
//! The parser limits the depth of its recursion, but some kinds of input take it too long. It parses
//! the rest of an operation twice if that fails, so nested operations with an error at the end take
//! exponential time. It compares each key of an object with all keys before, and names of attributes
//! with all that have the same hash.
//! This module follows the tokens of a text without recursion, and adds up that work. It refuses a
//! text whose tokens the parser could understand in another way.

use hcl_edit::Ident;

/// Maximum depth of blocks, brackets, strings and interpolations.
const MAX_DEPTH: usize = 64;

/// Maximum work for one text. A byte that is parsed once is one unit.
const MAX_WORK: u64 = 4 << 20;

/// How many comparisons of names cost as much as one byte.
const COMPARISONS_PER_BYTE: u64 = 8;

/// The reason why a text must not be parsed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Refusal {
    /// What the text has, as the end of a sentence whose subject is the file.
    pub(crate) reason: &'static str,
    /// The line, counted from 1.
    pub(crate) line: usize,
}

/// Returns the reason why a text must not be parsed, if there is one.
///
/// It counts from the first byte of the text, as the parser does. So each text that is parsed needs
/// its own call, also a part of another one.
pub(crate) fn refusal(text: &str) -> Option<Refusal> {
    let mut scanner = Scanner::new(text);
    let reason = scanner.scan().err()?;
    let before = text.as_bytes().get(..scanner.at).unwrap_or_default();
    let line = 1 + before.iter().filter(|byte| **byte == b'\n').count();
    Some(Refusal { reason, line })
}

/// Something that encloses other tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind<'a> {
    Block,
    /// The body of an object.
    Object,
    /// Parentheses or square brackets.
    Brackets,
    /// The code in `${…}` or `%{…}`.
    Interpolation,
    Quotes,
    Heredoc(&'a [u8]),
}

#[derive(Debug, Clone, Copy)]
struct Level<'a> {
    kind: Kind<'a>,
    /// Whether the parser can parse this level twice.
    doubles: bool,
    /// Number of operators so far in the current expression.
    operators: u32,
    /// Number of `?` so far in the current expression.
    conditions: u32,
    /// Number of keys of this object, or of attributes of this block, so far.
    keys: u64,
    /// Where the current key or attribute began.
    item: usize,
    /// Whether the current item has its `=`.
    has_key: bool,
    /// Number of directives (`%{if}` and `%{for}`) that have no end yet. The text in a directive
    /// has no quotes and no end of a heredoc.
    directives: u32,
}

impl<'a> Level<'a> {
    const fn new(kind: Kind<'a>, doubles: bool, at: usize) -> Self {
        Self {
            kind,
            doubles,
            operators: 0,
            conditions: 0,
            keys: 0,
            item: at,
            has_key: false,
            directives: 0,
        }
    }

    /// Begins another key or attribute, or another item of a list.
    const fn begin_item(&mut self, at: usize) {
        (self.item, self.has_key, self.operators, self.conditions) = (at, false, 0, 0);
    }

    /// Returns how often the parser can read white space after the current expression: once for each
    /// operator that waits for its end, and a few times in any case.
    fn reads_of_blanks(&self) -> u64 {
        u64::from(self.operators.saturating_add(self.conditions)).min(MAX_DEPTH as u64) / 4 + 1
    }
}

struct Scanner<'a> {
    text: &'a str,
    bytes: &'a [u8],
    at: usize,
    /// The innermost level is the last one. The first one is the text.
    levels: Vec<Level<'a>>,
    /// Number of levels that double the work.
    doublings: u32,
    /// Number of strings in quotes that enclose the current token.
    quotes: u32,
    work: u64,
    /// Whether the last token was a name or a string, so that `{` begins a block.
    after_name: bool,
}

impl<'a> Scanner<'a> {
    fn new(text: &'a str) -> Self {
        Self {
            text,
            bytes: text.as_bytes(),
            at: 0,
            levels: vec![Level::new(Kind::Block, false, 0)],
            doublings: 0,
            quotes: 0,
            work: 0,
            after_name: false,
        }
    }

    fn scan(&mut self) -> Result<(), &'static str> {
        self.characters()?;
        while let (Some(byte), Some(level)) = (self.bytes.get(self.at), self.levels.last().copied())
        {
            let from = self.at;
            match level.kind {
                Kind::Quotes | Kind::Heredoc(_) => self.template(*byte, level)?,
                _ => self.code(*byte, level)?,
            }
            self.add((self.at - from) as u64);
            if self.work > MAX_WORK {
                return Err(
                    "has too many nested operations, or too many keys in one object or block",
                );
            }
            if self.levels.len() > MAX_DEPTH {
                return Err("has more than 64 levels of nested blocks and expressions");
            }
        }
        let is_text = |level: &Level<'_>| matches!(level.kind, Kind::Quotes | Kind::Heredoc(_));
        if self.levels.iter().any(is_text) {
            return Err("has a string without an end");
        }
        Ok(())
    }

    /// Refuses characters that some parsers take for the end of a line or of the text.
    fn characters(&mut self) -> Result<(), &'static str> {
        let follows = |at: usize, wanted| self.bytes.get(at + 1) == Some(&wanted);
        let is_bad = |(at, byte): (usize, &u8)| match byte {
            0 => true,
            b'\r' => !follows(at, b'\n'),
            _ => false,
        };
        let Some(at) = self.bytes.iter().enumerate().position(is_bad) else { return Ok(()) };
        self.at = at;
        Err("has a NUL or a carriage return without a line feed")
    }

    /// Adds work that the parser can have once for each level that it parses twice.
    fn add(&mut self, work: u64) {
        let times = 1_u64 << self.doublings.min(40);
        self.work = self.work.saturating_add(work.saturating_mul(times));
    }

    fn begins(&self, text: &[u8]) -> bool {
        self.bytes.get(self.at..).is_some_and(|rest| rest.starts_with(text))
    }

    /// Skips to the next `text`, and returns whether there is one. Without one it stays.
    fn skip_to(&mut self, text: &[u8]) -> bool {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        let found = rest.windows(text.len()).position(|bytes| bytes == text);
        self.at += found.unwrap_or_default();
        found.is_some()
    }

    fn skip_while(&mut self, test: impl Fn(u8) -> bool) {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        self.at += rest.iter().take_while(|byte| test(**byte)).count();
    }

    fn push(&mut self, kind: Kind<'a>, doubles: bool) {
        self.doublings += u32::from(doubles);
        self.quotes += u32::from(kind == Kind::Quotes);
        self.levels.push(Level::new(kind, doubles, self.at));
        self.after_name = false;
    }

    /// Leaves the innermost level. The text itself is never left.
    fn pop(&mut self) {
        if self.levels.len() > 1
            && let Some(level) = self.levels.pop()
        {
            self.doublings -= u32::from(level.doubles);
            self.quotes -= u32::from(level.kind == Kind::Quotes);
        }
    }

    fn change(&mut self, change: impl FnOnce(&mut Level<'a>)) {
        if let Some(level) = self.levels.last_mut() {
            change(level);
        }
    }

    fn code(&mut self, byte: u8, level: Level<'a>) -> Result<(), &'static str> {
        // The second operator of an expression, and all that follow, are parsed twice if they fail.
        let doubles = level.operators > 1;
        let mut after_name = false;
        match byte {
            b' ' | b'\t' | b'\r' | b'\n' => {
                self.at += 1;
                self.add(level.reads_of_blanks() - 1);
                after_name = self.after_name && byte != b'\n';
                if byte == b'\n' {
                    self.line(level);
                }
            }
            b'#' => self.line_comment(level)?,
            b'/' if self.begins(b"//") => self.line_comment(level)?,
            b'/' if self.begins(b"/*") => {
                let from = self.at;
                self.at += 2;
                if !self.skip_to(b"*/") {
                    return Err("has a comment without an end");
                }
                self.at += 2;
                self.add((self.at - from) as u64 * (level.reads_of_blanks() - 1));
                after_name = self.after_name;
            }
            b'"' => {
                self.at += 1;
                self.push(Kind::Quotes, doubles);
            }
            b'<' if self.begins(b"<<") => self.heredoc(doubles)?,
            b'(' | b'[' => {
                self.at += 1;
                self.push(Kind::Brackets, doubles);
            }
            b'{' if self.after_name && level.kind == Kind::Block => {
                self.at += 1;
                self.change(|level| level.operators = 0);
                self.push(Kind::Block, false);
            }
            b'{' => {
                self.at += 1;
                self.push(Kind::Object, doubles);
            }
            b')' | b']' => {
                self.at += 1;
                if level.kind == Kind::Brackets {
                    self.pop();
                }
            }
            b'}' => {
                self.at += 1;
                if level.kind != Kind::Brackets {
                    self.pop();
                }
            }
            b'=' if self.begins(b"==") || self.begins(b"=>") => self.operator(2),
            b'=' | b':' => {
                self.key(byte, level);
                self.at += 1;
            }
            b',' => {
                self.at += 1;
                let at = self.at;
                self.change(|level| level.begin_item(at));
            }
            b'+' | b'-' | b'*' | b'/' | b'%' | b'<' | b'>' | b'!' | b'&' | b'|' => {
                let is_long = [b"!=", b"<=", b">=", b"&&", b"||"].iter().any(|it| self.begins(*it));
                self.operator(if is_long { 2 } else { 1 });
            }
            b'?' => {
                self.at += 1;
                self.change(|level| level.conditions = level.conditions.saturating_add(1));
            }
            // A `-` after digits is an operator, and a part of any other name.
            b'0'..=b'9' => self.skip_while(|byte| byte.is_ascii_digit()),
            _ if is_of_a_name(byte) => {
                self.name()?;
                after_name = true;
            }
            _ if byte.is_ascii_control() => return Err("has a control character"),
            _ => self.at += 1,
        }
        self.after_name = after_name;
        Ok(())
    }

    /// Reads a name. One in another script must be as the parser wants it, which otherwise stops
    /// inside of it.
    fn name(&mut self) -> Result<(), &'static str> {
        let from = self.at;
        self.skip_while(is_of_a_name);
        let name = self.text.get(from..self.at).unwrap_or_default();
        if name.is_ascii() || Ident::try_new(name).is_ok() {
            return Ok(());
        }
        self.at = from;
        Err("has a character that no name can have")
    }

    /// Ends a line of code. In a block, that ends an attribute.
    fn line(&mut self, level: Level<'a>) {
        let at = self.at;
        match level.kind {
            Kind::Block => self.change(|level| level.begin_item(at)),
            Kind::Object => self.change(|level| (level.item, level.has_key) = (at, false)),
            _ => {}
        }
    }

    /// Skips a comment to the end of its line.
    fn line_comment(&mut self, level: Level<'a>) -> Result<(), &'static str> {
        if self.quotes > 0 {
            return Err("has a comment in a quoted string");
        }
        let from = self.at;
        if !self.skip_to(b"\n") {
            self.at = self.bytes.len();
        }
        self.add((self.at - from) as u64 * (level.reads_of_blanks() - 1));
        Ok(())
    }

    fn operator(&mut self, bytes: usize) {
        self.at += bytes;
        self.change(|level| level.operators = level.operators.saturating_add(1));
    }

    /// Adds the comparisons of one key of an object with all keys before, or of the name of an
    /// attribute.
    fn key(&mut self, byte: u8, level: Level<'a>) {
        let is_assigned = byte == b'=';
        let counts = match level.kind {
            Kind::Object => !level.has_key,
            Kind::Block => is_assigned,
            _ => false,
        };
        if counts {
            let key = self.bytes.get(level.item..self.at).unwrap_or_default().trim_ascii();
            let length = key.len() as u64;
            let comparisons = if is_simple(key) {
                level.keys.saturating_mul(1 + length / 64) / COMPARISONS_PER_BYTE
            } else {
                level.keys.saturating_mul(1 + length / 2)
            };
            self.add(comparisons);
            self.change(|level| level.keys += 1);
        }
        if is_assigned && matches!(level.kind, Kind::Object | Kind::Block) {
            self.change(|level| {
                (level.operators, level.conditions, level.has_key) = (0, 0, true);
            });
        }
    }

    /// Begins a heredoc. In all other places the parser could read `<<` in several ways.
    fn heredoc(&mut self, doubles: bool) -> Result<(), &'static str> {
        let from = self.at;
        self.at += 2;
        if self.begins(b"-") {
            self.at += 1;
        }
        let name = self.at;
        self.skip_while(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'));
        let delimiter = self.bytes.get(name..self.at).unwrap_or_default();
        if self.begins(b"\r") {
            self.at += 1;
        }
        let begins = delimiter.first().is_some_and(|it| it.is_ascii_alphabetic() || *it == b'_');
        if !begins || !self.begins(b"\n") {
            self.at = from;
            return Err("has `<<` without the name of a heredoc in ASCII");
        }
        self.at += 1;
        if self.ends_heredoc(delimiter)?.is_some() {
            // The parser looks for the end of an empty heredoc in the rest of the file.
            return Err("has an empty heredoc, in place of `\"\"`");
        }
        self.push(Kind::Heredoc(delimiter), doubles);
        Ok(())
    }

    /// Returns where a heredoc ends, if this is the beginning of its last line.
    fn ends_heredoc(&self, delimiter: &[u8]) -> Result<Option<usize>, &'static str> {
        let line = self.bytes.get(self.at..).unwrap_or_default();
        let spaces = line.iter().take_while(|byte| matches!(byte, b' ' | b'\t')).count();
        let Some(rest) = line.get(spaces..).and_then(|line| line.strip_prefix(delimiter)) else {
            return Ok(None);
        };
        match rest.first() {
            Some(byte) if !byte.is_ascii() => Err("has a heredoc whose end is not clear"),
            Some(byte) if is_of_a_name(*byte) => Ok(None),
            _ => Ok(Some(self.at + spaces + delimiter.len())),
        }
    }

    fn template(&mut self, byte: u8, level: Level<'a>) -> Result<(), &'static str> {
        let is_quoted = level.kind == Kind::Quotes && level.directives == 0;
        match byte {
            b'"' if is_quoted => {
                self.at += 1;
                self.pop();
                self.after_name = true;
            }
            b'\\' if is_quoted => {
                self.at += 1;
                // The parser has an error at all other escapes.
                if self.bytes.get(self.at).is_some_and(|it| b"nrtuU\\\"".contains(it)) {
                    self.at += 1;
                }
            }
            b'$' | b'%' if self.begins(b"$${") || self.begins(b"%%{") => self.at += 3,
            b'$' if self.begins(b"${") => {
                self.at += 2;
                self.push(Kind::Interpolation, false);
            }
            b'%' if self.begins(b"%{") => self.directive()?,
            b'\n' if level.kind == Kind::Quotes => {
                return Err("has a line break in a quoted string");
            }
            b'\n' => {
                self.at += 1;
                if let Kind::Heredoc(delimiter) = level.kind
                    && level.directives == 0
                    && let Some(end) = self.ends_heredoc(delimiter)?
                {
                    self.at = end;
                    self.pop();
                    self.after_name = false;
                }
            }
            _ => self.at += 1,
        }
        Ok(())
    }

    /// Begins a directive, and counts whether another one has begun or ended with it.
    fn directive(&mut self) -> Result<(), &'static str> {
        self.at += 2;
        if self.begins(b"~") {
            self.at += 1;
        }
        self.skip_while(|byte| matches!(byte, b' ' | b'\t' | b'\r' | b'\n'));
        if [&b"#"[..], b"//", b"/*"].iter().any(|comment| self.begins(comment)) {
            return Err("has a comment before the first word of a directive");
        }
        let (begins, ends) = (
            self.begins(b"if") || self.begins(b"for"),
            self.begins(b"endif") || self.begins(b"endfor"),
        );
        self.change(|level| {
            level.directives = (level.directives + u32::from(begins)).saturating_sub(ends.into());
        });
        self.push(Kind::Interpolation, false);
        Ok(())
    }
}

/// Returns whether a key is a name, or a string that is one piece. All others are compared part by
/// part.
fn is_simple(key: &[u8]) -> bool {
    match key.strip_prefix(b"\"").and_then(|key| key.strip_suffix(b"\"")) {
        Some(string) => !string.iter().any(|byte| matches!(byte, b'"' | b'{')),
        None => key.iter().copied().all(is_of_a_name),
    }
}

/// Returns whether a byte can be a part of a name. Bytes of other scripts always can.
const fn is_of_a_name(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-') || !byte.is_ascii()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_whose_parsing_would_take_too_long_is_refused() {
        let nested =
            |open: &str, close: &str| format!("a = {}<{}\n", open.repeat(30), close.repeat(30));
        let keys: String = (0..20_000).map(|at| format!("k{at} = 1\n")).collect();
        let lists: String = (0..7_400).map(|at| format!("[{}{at}]=1,", "1,".repeat(30))).collect();
        let objects = "true ? { a = 1 + 1 + (";
        for (text, part) in [
            (nested("1 + 1 + (", ")"), "nested operations"),
            (nested("true && true && \"${", "}\""), "nested operations"),
            (nested("1 + 1 + /* ) */ (", ")"), "nested operations"),
            (nested("1-1-(", ")"), "nested operations"),
            (nested("[1]\n+ 1 + 1 +\n(", ")"), "nested operations"),
            (nested("1 + 1 + (\"%{ if x }\"%{ endif }\" + 1 + (", "))"), "nested operations"),
            (nested(objects, ") }"), "nested operations"),
            (format!("a = {{\n{keys}}}\n"), "too many keys"),
            (format!("a {{\n{keys}}}\n"), "too many keys"),
            (keys, "too many keys"),
            (format!("a = {{{lists}}}\n"), "too many keys"),
            ("a {\n".repeat(100), "64 levels"),
            ("[".repeat(100), "64 levels"),
            ("\"${".repeat(100), "64 levels"),
        ] {
            let refused = refusal(&text).unwrap_or_else(|| panic!("accepted: {text:.200}"));
            assert!(refused.reason.contains(part), "{refused:?}: {text:.200}");
        }
    }

    #[test]
    fn a_text_that_can_be_understood_in_two_ways_is_refused_with_its_line() {
        for (text, part, line) in [
            ("\n\na = \"x\n", "line break in a quoted string", 3),
            ("a = \"${\"\n\"}\"", "line break in a quoted string", 1),
            ("a = \"%{ if x }\n%{ endif }\"", "line break in a quoted string", 1),
            ("a = 1 <<<E\n\"\nE\n", "`<<` without the name", 1),
            ("a = 1 <<\n", "`<<` without the name", 1),
            ("a = <<\u{c9}\nx\n\u{c9}\n", "`<<` without the name", 1),
            ("a = <<1\nx\n1\n", "`<<` without the name", 1),
            ("a = <<E x\n", "`<<` without the name", 1),
            ("a = <<E", "`<<` without the name", 1),
            ("a = <<E\nx\nE\u{2192}\n", "end is not clear", 3),
            ("a = <<E\nE\n", "empty heredoc", 2),
            ("a = <<E\nx\n", "string without an end", 3),
            ("a = \"\\", "string without an end", 1),
            ("\n/* x\n", "comment without an end", 2),
            ("a = \"${ x # }\" }\"", "comment in a quoted string", 1),
            ("a = \"${ x // }\" }\"", "comment in a quoted string", 1),
            ("a = \"%{ /* */ if x }\"", "comment before the first word", 1),
            ("a = 1\rb = 2", "carriage return", 1),
            ("a = 1\n# \0", "NUL", 2),
            ("a = \x0c1", "control character", 1),
            ("\u{feff}a = 1", "no name can have", 1),
            ("a = x\u{2192}-1", "no name can have", 1),
        ] {
            let refused = refusal(text).unwrap_or_else(|| panic!("accepted: {text:?}"));
            assert!(refused.reason.contains(part), "{text:?}: {refused:?}");
            assert_eq!(refused.line, line, "{text:?}: {refused:?}");
        }
    }

    #[test]
    fn usual_code_of_the_largest_size_is_accepted() {
        let block = r#"
            resource "aws_instance" "a-b" {
              # (((((((((( "
              count = var.a && var.b && (var.c || var.d || (length(var.e) > 0)) ? 1 : 0
              tags  = merge({ Name = "x-${var.name}" }, { a = 1, b : 2 }) // {{{{ "
              été = { (var.x) = 1, "${var.y}-z" = 2, a = var.z ? 1 : 2 } /* " */
              user_data = <<-EOT
                "((( ${join("", [for k, v in var.x : "${k}=${v}" if v != null])}
                %{ for x in y ~} " ${x} %{ endfor ~} ${ x # a comment
                }
              EOT
              lifecycle { ignore_changes = [tags] }
            }
        "#;
        let block = block.replace("\\u00e9", "\u{e9}");
        assert_eq!(refusal(&block.repeat((512 << 10) / block.len())), None);
        assert_eq!(refusal(&block.replace('\n', "\r\n")), None);
        let names: String = (0..5_000).map(|at| format!("name_{at} = var.x ? 1 : 2\n")).collect();
        assert_eq!(refusal(&format!("locals {{\n{names}}}\n")), None);
        assert_eq!(refusal(""), None);
        assert_eq!(refusal("}}}]]])))"), None);
    }
}
