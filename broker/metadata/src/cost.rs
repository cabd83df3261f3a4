//! Estimates what it costs to parse HCL, so that no file costs more than its size allows.
//!
//! The parser limits the depth of its recursion, but two kinds of input take it too long. It parses
//! the rest of an operation twice if that fails, so nested operations with an error at the end take
//! exponential time. And it compares each key of an object with all keys before.
//! This module follows the tokens of a file without recursion, and adds up that work.

/// Maximum depth of blocks, brackets, strings and interpolations.
const MAX_DEPTH: usize = 64;

/// Maximum work for one file. A byte that is parsed once is one unit.
const MAX_WORK: u64 = 4 << 20;

/// How many comparisons of keys cost as much as one byte.
const COMPARISONS_PER_BYTE: u64 = 8;

/// Returns the reason why a file must not be parsed, if there is one.
pub(crate) fn refusal(text: &str) -> Option<&'static str> {
    Scanner::new(text).scan().err()
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
    /// Number of keys so far, if this is an object.
    keys: u64,
    /// Where the last key ended.
    last_key: usize,
    /// Number of directives (`%{if}` and `%{for}`) that have no end yet. The text in a directive
    /// has no quotes and no end of a heredoc.
    directives: u32,
}

impl<'a> Level<'a> {
    const fn new(kind: Kind<'a>, doubles: bool, at: usize) -> Self {
        Self { kind, doubles, operators: 0, keys: 0, last_key: at, directives: 0 }
    }
}

struct Scanner<'a> {
    bytes: &'a [u8],
    at: usize,
    /// The innermost level is the last one. The first one is the file.
    levels: Vec<Level<'a>>,
    /// Number of levels that double the work.
    doublings: u32,
    work: u64,
    /// Whether the last token was a name or a string, so that `{` begins a block.
    after_name: bool,
}

impl<'a> Scanner<'a> {
    fn new(text: &'a str) -> Self {
        Self {
            bytes: text.as_bytes(),
            at: 0,
            levels: vec![Level::new(Kind::Block, false, 0)],
            doublings: 0,
            work: 0,
            after_name: false,
        }
    }

    fn scan(mut self) -> Result<(), &'static str> {
        while let (Some(byte), Some(level)) = (self.bytes.get(self.at), self.levels.last().copied())
        {
            let from = self.at;
            match level.kind {
                Kind::Quotes | Kind::Heredoc(_) => self.template(*byte, level),
                _ => self.code(*byte, level)?,
            }
            let bytes = (self.at - from) as u64;
            self.add(bytes.saturating_mul(1 << self.doublings.min(40)));
            if self.work > MAX_WORK {
                return Err("has too many nested operations or too large objects");
            }
            if self.levels.len() > MAX_DEPTH {
                return Err("has more than 64 levels of nested blocks and expressions");
            }
        }
        Ok(())
    }

    const fn add(&mut self, work: u64) {
        self.work = self.work.saturating_add(work);
    }

    fn begins(&self, text: &[u8]) -> bool {
        self.bytes.get(self.at..).is_some_and(|rest| rest.starts_with(text))
    }

    /// Skips to the first byte after the next `text`, or to the end.
    fn skip_past(&mut self, text: &[u8]) {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        let found = rest.windows(text.len()).position(|bytes| bytes == text);
        self.at = found.map_or(self.bytes.len(), |found| self.at + found + text.len());
    }

    fn skip_while(&mut self, test: impl Fn(u8) -> bool) {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        self.at += rest.iter().take_while(|byte| test(**byte)).count();
    }

    fn push(&mut self, kind: Kind<'a>, doubles: bool) {
        self.doublings += u32::from(doubles);
        self.levels.push(Level::new(kind, doubles, self.at));
        self.after_name = false;
    }

    /// Leaves the innermost level. The file itself is never left.
    fn pop(&mut self) {
        if self.levels.len() > 1
            && let Some(level) = self.levels.pop()
        {
            self.doublings -= u32::from(level.doubles);
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
            b' ' | b'\t' | b'\r' => {
                self.at += 1;
                after_name = self.after_name;
            }
            b'#' => self.skip_past(b"\n"),
            b'/' if self.begins(b"//") => self.skip_past(b"\n"),
            b'/' if self.begins(b"/*") => {
                self.at += 2;
                self.skip_past(b"*/");
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
                self.at += 1;
                self.key(level);
                if byte == b'=' {
                    self.change(|level| level.operators = 0);
                }
            }
            b',' => {
                self.at += 1;
                self.change(|level| level.operators = 0);
            }
            b'+' | b'-' | b'*' | b'/' | b'%' | b'<' | b'>' | b'!' | b'&' | b'|' => {
                let is_long = [b"!=", b"<=", b">=", b"&&", b"||"].iter().any(|it| self.begins(*it));
                self.operator(if is_long { 2 } else { 1 });
            }
            // A `-` after digits is an operator, and a part of any other name.
            b'0'..=b'9' => self.skip_while(|byte| byte.is_ascii_digit()),
            _ if is_of_a_name(byte) => {
                self.skip_while(is_of_a_name);
                after_name = true;
            }
            _ => self.at += 1,
        }
        self.after_name = after_name;
        Ok(())
    }

    fn operator(&mut self, bytes: usize) {
        self.at += bytes;
        self.change(|level| level.operators = level.operators.saturating_add(1));
    }

    /// Adds the comparisons of one key of an object with all keys before.
    fn key(&mut self, level: Level<'a>) {
        if level.kind == Kind::Object {
            let length = (self.at - level.last_key) as u64;
            let comparisons = level.keys.saturating_mul(1 + length / 64) / COMPARISONS_PER_BYTE;
            self.add(comparisons.saturating_mul(1 << self.doublings.min(40)));
            let at = self.at;
            self.change(|level| {
                level.keys += 1;
                level.last_key = at;
            });
        }
    }

    fn heredoc(&mut self, doubles: bool) -> Result<(), &'static str> {
        self.at += 2;
        if self.begins(b"-") {
            self.at += 1;
        }
        let from = self.at;
        self.skip_while(is_of_a_name);
        let delimiter = self.bytes.get(from..self.at).unwrap_or_default();
        if self.begins(b"\r") {
            self.at += 1;
        }
        if delimiter.is_empty() || !self.begins(b"\n") {
            return Ok(());
        }
        self.at += 1;
        if self.ends_heredoc(delimiter).is_some() {
            // The parser looks for the end of an empty heredoc in the rest of the file.
            return Err("has an empty heredoc; write `\"\"` instead");
        }
        self.push(Kind::Heredoc(delimiter), doubles);
        Ok(())
    }

    /// Returns where a heredoc ends, if this is the beginning of its last line.
    fn ends_heredoc(&self, delimiter: &[u8]) -> Option<usize> {
        let line = self.bytes.get(self.at..)?;
        let spaces = line.iter().take_while(|byte| matches!(byte, b' ' | b'\t')).count();
        let rest = line.get(spaces..)?.strip_prefix(delimiter)?;
        let is_longer = rest.first().is_some_and(|byte| is_of_a_name(*byte));
        (!is_longer).then_some(self.at + spaces + delimiter.len())
    }

    fn template(&mut self, byte: u8, level: Level<'a>) {
        let is_quoted = level.kind == Kind::Quotes && level.directives == 0;
        match byte {
            b'"' if is_quoted => {
                self.at += 1;
                self.pop();
                self.after_name = true;
            }
            b'\\' if is_quoted => self.at += 2,
            b'$' | b'%' if self.begins(b"$${") || self.begins(b"%%{") => self.at += 3,
            b'$' if self.begins(b"${") => {
                self.at += 2;
                self.push(Kind::Interpolation, false);
            }
            b'%' if self.begins(b"%{") => self.directive(),
            b'\n' => {
                self.at += 1;
                if let Kind::Heredoc(delimiter) = level.kind
                    && level.directives == 0
                    && let Some(end) = self.ends_heredoc(delimiter)
                {
                    self.at = end;
                    self.pop();
                    self.after_name = false;
                }
            }
            _ => self.at += 1,
        }
        self.at = self.at.min(self.bytes.len());
    }

    /// Begins a directive, and counts whether another one has begun or ended with it.
    fn directive(&mut self) {
        self.at += 2;
        if self.begins(b"~") {
            self.at += 1;
        }
        self.skip_blank();
        let (begins, ends) = (
            self.begins(b"if") || self.begins(b"for"),
            self.begins(b"endif") || self.begins(b"endfor"),
        );
        self.change(|level| {
            level.directives = (level.directives + u32::from(begins)).saturating_sub(ends.into());
        });
        self.push(Kind::Interpolation, false);
    }

    /// Skips white space and comments.
    fn skip_blank(&mut self) {
        loop {
            self.skip_while(|byte| byte.is_ascii_whitespace());
            if self.begins(b"#") || self.begins(b"//") {
                self.skip_past(b"\n");
            } else if self.begins(b"/*") {
                self.at += 2;
                self.skip_past(b"*/");
            } else {
                return;
            }
        }
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
        let filler = "x".repeat(200_000);
        for (text, part) in [
            (nested("1 + 1 + (", ")"), "nested operations"),
            (nested("true && true && \"${", "}\""), "nested operations"),
            (nested("1 + 1 + /* ) */ (", ")"), "nested operations"),
            (nested("1-1-(", ")"), "nested operations"),
            (nested("[1]\n+ 1 + 1 +\n(", ")"), "nested operations"),
            (nested("1 + 1 + (\"%{ if x }\"%{ endif }\" + 1 + (", "))"), "nested operations"),
            (format!("a = {{\n{keys}}}\n"), "too large objects"),
            ("a {\n".repeat(100), "64 levels"),
            ("[".repeat(100), "64 levels"),
            ("\"${".repeat(100), "64 levels"),
            (format!("a = <<E\nE\nb = \"{filler}\"\n"), "empty heredoc"),
        ] {
            let refused = refusal(&text).unwrap_or_else(|| panic!("accepted: {text:.200}"));
            assert!(refused.contains(part), "{refused}: {text:.200}");
        }
    }

    #[test]
    fn usual_code_of_the_largest_size_is_accepted() {
        let block = r#"
            resource "aws_instance" "a-b" {
              # ((((((((((
              count = var.a && var.b && (var.c || var.d || (length(var.e) > 0)) ? 1 : 0
              tags  = merge({ Name = "x-${var.name}" }, { a = 1, b : 2 }) // {{{{
              user_data = <<-EOT
                "((( ${join("", [for k, v in var.x : "${k}=${v}" if v != null])}
                %{ for x in y ~} " ${x} %{ endfor ~}
              EOT
              lifecycle { ignore_changes = [tags] }
            }
        "#;
        assert_eq!(refusal(&block.repeat((512 << 10) / block.len())), None);
        assert_eq!(refusal(""), None);
        assert_eq!(refusal("a = \"\\"), None);
        assert_eq!(refusal("a = <<E"), None);
        assert_eq!(refusal("}}}]]])))"), None);
    }
}
