//! Matches paths against patterns, and reads the rules of a `.terraformignore`.
//!
//! The rules are those of Terraform (HashiCorp's go-slug), as decision 0013 says.

use std::fmt;
use std::iter::Peekable;
use std::str::Chars;

/// Maximum length of a pattern in bytes. It bounds the depth of recursion.
const MAX_PATTERN_LEN: usize = 1_024;

/// A pattern for paths that are relative to the module's folder, with `/` between their parts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Pattern {
    /// The pattern as it was written.
    text: String,
    tokens: Vec<Token>,
}

/// One step of a pattern.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Token {
    /// This character.
    Literal(char),
    /// `?`: any character except `/`.
    AnyOne,
    /// `[a-z]` or `[^a-z]`: one character inside, or outside, of the ranges.
    Class { is_negated: bool, ranges: Vec<(char, char)> },
    /// `*`: any number of characters except `/`.
    AnyInPart,
    /// `**` at the end: any number of characters.
    Rest,
    /// `**` elsewhere: no folder, or folders to any depth. [`Self::InsideFolders`] follows it.
    Folders,
    /// Any number of characters, and then `/`.
    InsideFolders,
}

impl fmt::Display for Pattern {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.text)
    }
}

impl Pattern {
    /// Parses a pattern of `*`, `?`, `[a-z]`, `**` and other characters.
    ///
    /// A pattern applies in every folder, unless it begins with `/`. A pattern that ends with `/`
    /// matches the content of a folder. `\` takes the special meaning from the next character.
    ///
    /// # Errors
    ///
    /// The problem with the pattern, as the end of a sentence.
    pub(crate) fn parse(text: &str) -> Result<Self, &'static str> {
        if text.is_empty() {
            return Err("is empty");
        }
        if text.len() > MAX_PATTERN_LEN {
            return Err("has more than 1,024 bytes");
        }
        let written = text.to_owned();
        let everywhere = if text.starts_with('/') { "" } else { "**/" };
        let below = if text.ends_with('/') { "**" } else { "" };
        let text = format!("{everywhere}{}{below}", text.strip_prefix('/').unwrap_or(text));
        let mut chars = text.chars().peekable();
        let mut tokens = Vec::new();
        while let Some(next) = chars.next() {
            match next {
                '*' if chars.next_if_eq(&'*').is_some() => {
                    chars.next_if_eq(&'/');
                    if chars.peek().is_none() {
                        tokens.push(Token::Rest);
                    } else {
                        tokens.extend([Token::Folders, Token::InsideFolders]);
                    }
                }
                '*' => tokens.push(Token::AnyInPart),
                '?' => tokens.push(Token::AnyOne),
                '[' => tokens.push(class(&mut chars)?),
                '\\' => tokens.push(Token::Literal(escaped(&mut chars)?)),
                literal => tokens.push(Token::Literal(literal)),
            }
        }
        Ok(Self { text: written, tokens })
    }

    /// Returns whether the pattern matches the whole path. The path of a folder may end with `/`.
    pub(crate) fn matches(&self, path: &str) -> bool {
        let none = vec![false; self.tokens.len() + 1];
        let mut reached = none.clone();
        self.enter(0, &mut reached);
        for letter in path.chars() {
            let mut next = none.clone();
            for (at, token) in self.tokens.iter().enumerate().filter(|(at, _)| reached[*at]) {
                match token {
                    Token::Literal(wanted) if *wanted == letter => self.enter(at + 1, &mut next),
                    Token::AnyOne if letter != '/' => self.enter(at + 1, &mut next),
                    Token::Class { is_negated, ranges } => {
                        let is_inside = ranges.iter().any(|(a, z)| (*a..=*z).contains(&letter));
                        if is_inside != *is_negated {
                            self.enter(at + 1, &mut next);
                        }
                    }
                    Token::AnyInPart if letter != '/' => self.enter(at, &mut next),
                    Token::Rest => self.enter(at, &mut next),
                    Token::InsideFolders => {
                        self.enter(at, &mut next);
                        if letter == '/' {
                            self.enter(at + 1, &mut next);
                        }
                    }
                    _ => {}
                }
            }
            reached = next;
        }
        reached[self.tokens.len()]
    }

    /// Marks a position as reached, with the positions after it that need no character.
    fn enter(&self, at: usize, reached: &mut [bool]) {
        if std::mem::replace(&mut reached[at], true) {
            return;
        }
        match self.tokens.get(at) {
            Some(Token::AnyInPart | Token::Rest) => self.enter(at + 1, reached),
            Some(Token::Folders) => {
                self.enter(at + 1, reached);
                self.enter(at + 2, reached);
            }
            _ => {}
        }
    }
}

/// Parses the rest of a class after `[`.
fn class(chars: &mut Peekable<Chars<'_>>) -> Result<Token, &'static str> {
    let is_negated = chars.next_if_eq(&'^').is_some();
    let mut ranges = Vec::new();
    loop {
        let first = match chars.next() {
            None => return Err("has a `[` without a `]`"),
            Some(']') if !ranges.is_empty() => return Ok(Token::Class { is_negated, ranges }),
            Some('\\') => escaped(chars)?,
            Some(first) => first,
        };
        let mut ahead = chars.clone();
        let is_range = ahead.next() == Some('-') && ahead.next().is_some_and(|last| last != ']');
        let last = if is_range {
            chars.next();
            match chars.next() {
                Some('\\') => escaped(chars)?,
                last => last.unwrap_or(first),
            }
        } else {
            first
        };
        if last < first {
            return Err("has a range that ends before it begins");
        }
        ranges.push((first, last));
    }
}

fn escaped(chars: &mut Peekable<Chars<'_>>) -> Result<char, &'static str> {
    chars.next().ok_or("ends with `\\`")
}

/// The rules of a `.terraformignore`. The last rule that matches a path decides.
#[derive(Debug, Default)]
pub(crate) struct IgnoreRules(Vec<Rule>);

#[derive(Debug)]
struct Rule {
    pattern: Pattern,
    /// Whether the rule begins with `!`, so that it does not exclude what it matches.
    is_negated: bool,
}

/// A line of a `.terraformignore` that is not a rule.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("has a pattern in line {line} that {problem}")]
pub(crate) struct RuleError {
    /// The number of the line, from 1.
    line: usize,
    /// The problem with its pattern.
    problem: &'static str,
}

impl IgnoreRules {
    /// Parses the text of a `.terraformignore`. It ignores comments, blank lines, and spaces around
    /// a rule.
    ///
    /// # Errors
    ///
    /// [`RuleError`], because a rule without effect could publish a secret.
    pub(crate) fn parse(text: &str) -> Result<Self, RuleError> {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let mut rules = Vec::new();
        for (number, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let (is_negated, pattern) = match line.strip_prefix('!') {
                Some(pattern) => (true, pattern),
                None => (false, line),
            };
            let pattern = Pattern::parse(pattern)
                .map_err(|problem| RuleError { line: number + 1, problem })?;
            rules.push(Rule { pattern, is_negated });
        }
        Ok(Self(rules))
    }

    /// Returns whether the rules exclude a path. The path of a folder ends with `/`.
    pub(crate) fn excludes(&self, path: &str) -> bool {
        self.last(path).is_some_and(|at| !self.0[at].is_negated)
    }

    /// Returns whether the rules exclude a folder, and no later rule can include a file in it.
    pub(crate) fn excludes_all_in(&self, folder: &str) -> bool {
        self.last(folder).is_some_and(|at| self.0[at..].iter().all(|rule| !rule.is_negated))
    }

    fn last(&self, path: &str) -> Option<usize> {
        self.0.iter().rposition(|rule| rule.pattern.matches(path))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A file of rules, paths that it excludes, and paths that it does not exclude.
    type Case = (&'static str, &'static [&'static str], &'static [&'static str]);

    /// The first rows are from the documentation and the tests of go-slug.
    const CASES: &[Case] = &[
        ("", &[], &["main.tf", "a/main.tf", ".git/"]),
        ("# comment\n\n  \n # comment\n", &[], &["# comment", "main.tf"]),
        ("   baz.txt  \r\n", &["baz.txt", "a/b/baz.txt"], &["with-baz.txt", "baz.x", "baz.txt/a"]),
        ("logs/", &["logs/", "logs/a", "a/logs/b/c"], &["logs", "a/logs", "my-logs/a"]),
        ("logs", &["logs", "a/logs"], &["logs/", "logs/a", "logs.txt"]),
        ("terraform.d/\n!/terraform.d/", &["a/terraform.d/x"], &["terraform.d/", "terraform.d/x"]),
        ("**/foo/bar.tf", &["foo/bar.tf", "a/b/foo/bar.tf"], &["bar/bar.tf", "foo/a/bar.tf"]),
        ("foo/*.md", &["foo/a.md", "x/foo/.md"], &["foo/a/b.md", "foo/a.md.tf", "a.md"]),
        ("bar/something-[a-z].txt", &["bar/something-a.txt"], &["bar/something-A.txt"]),
        ("boop.txt\n!/boop.txt", &["baz/boop.txt"], &["boop.txt"]),
        ("!a.txt\na.txt", &["a.txt"], &["b.txt"]),
        ("a.txt\n!a.txt\na.txt", &["a.txt"], &[]),
        ("src/**/*\n!src/foo/bar.txt", &["src/baz/ignored", "src/a"], &["src/foo/bar.txt"]),
        ("*\n!*.tf\n!modules/", &["README.md", "docs/a.md"], &["main.tf", "a/b.tf", "modules/a"]),
        ("/docs/", &["docs/a", "docs/b/c"], &["a/docs/b", "docs"]),
        ("/*.tf", &["main.tf"], &["a/main.tf"]),
        ("a/**", &["a/b", "a/b/c", "x/a/b"], &["a", "ab/c"]),
        ("a/**/b", &["a/b", "a/x/b", "a/x/y/b"], &["a/xb", "ab", "a/b/c"]),
        ("**", &["a", "a/b"], &[]),
        ("/", &["a", "a/b"], &[]),
        ("?.tf", &["a.tf", "x/\u{e9}.tf"], &["ab.tf", ".tf"]),
        ("a?b", &["axb"], &["a/b", "ab"]),
        ("[^a-c].tf", &["d.tf", "-.tf"], &["a.tf", "b.tf"]),
        ("[]x-].tf", &["].tf", "x.tf", "-.tf"], &["a.tf"]),
        ("\\!important\n\\#a\n\\*", &["!important", "#a", "*"], &["important", "a"]),
        ("a+(b)|^{c}$.tf", &["a+(b)|^{c}$.tf"], &["aa", "aab", "a+(b)|^{c}$xtf"]),
        ("\u{feff}a.txt", &["a.txt"], &["b.txt"]),
        ("*a*a*a*a*a*a*a*b", &["aaaaaaaab"], &["aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"]),
    ];

    #[test]
    fn a_line_that_is_not_a_rule_is_an_error_with_its_number() {
        let long = format!("a\n{}", "x".repeat(MAX_PATTERN_LEN + 1));
        for (text, line, problem) in [
            ("!", 1, "is empty"),
            ("a\n\n ! \n", 3, "is empty"),
            ("[a-z", 1, "has a `[` without a `]`"),
            ("#\n[]", 2, "has a `[` without a `]`"),
            ("[z-a]", 1, "has a range that ends before it begins"),
            ("a\\", 1, "ends with `\\`"),
            (&long, 2, "has more than 1,024 bytes"),
        ] {
            assert_eq!(IgnoreRules::parse(text).unwrap_err(), RuleError { line, problem });
        }
    }

    #[test]
    fn the_last_rule_that_matches_decides() {
        for (text, excluded, others) in CASES {
            let rules = IgnoreRules::parse(text).unwrap();
            for path in *excluded {
                assert!(rules.excludes(path), "{text:?} excludes {path}");
            }
            for path in *others {
                assert!(!rules.excludes(path), "{text:?} does not exclude {path}");
            }
        }
    }

    #[test]
    fn a_folder_is_excluded_as_a_whole_only_if_no_later_rule_is_negated() {
        for (text, folder, is_whole) in [
            ("logs/", "logs/", true),
            ("!a\nlogs/\ntmp/", "a/tmp/", true),
            ("logs/\n!logs/a", "logs/", false),
            ("logs/\n!elsewhere", "logs/", false),
            ("logs", "logs/", false),
            ("logs/\n!logs/", "logs/", false),
        ] {
            let rules = IgnoreRules::parse(text).unwrap();
            assert_eq!(rules.excludes_all_in(folder), is_whole, "{text:?}");
        }
    }

    #[test]
    fn a_pattern_of_many_folders_ends_in_time() {
        let pattern = Pattern::parse(&"**/".repeat(300)).unwrap();
        assert!(pattern.matches(&"a/".repeat(500)));
        let pattern = Pattern::parse(&"*".repeat(MAX_PATTERN_LEN)).unwrap();
        assert!(pattern.matches(&"a".repeat(1_000)));
    }
}
