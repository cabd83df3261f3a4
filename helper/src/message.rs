//! Errors as people read them: one line, causes joined, nothing in it that a terminal would obey.

use std::error::Error;

/// Longest text of somebody else that is shown, in characters.
const MAX_TEXT: usize = 800;

/// An error and its causes, joined by colons; a cause that says the same again is left out.
pub fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        next = cause.source();
    }
    one_line(&text)
}

/// The innermost cause: what really happened, without the names of the layers it came through.
pub fn root_cause(error: &dyn Error) -> String {
    let mut innermost = error;
    while let Some(cause) = innermost.source() {
        innermost = cause;
    }
    one_line(&innermost.to_string())
}

/// One line of bounded length without control characters.
///
/// What a server says ends on a terminal, and an escape sequence there could rewrite what the person sees.
pub fn one_line(text: &str) -> String {
    let words: Vec<&str> = text
        .split(|c: char| c.is_whitespace() || is_unprintable(c))
        .filter(|word| !word.is_empty())
        .collect();
    let line = words.join(" ");
    if line.chars().count() <= MAX_TEXT {
        line
    } else {
        line.chars().take(MAX_TEXT).chain("…".chars()).collect()
    }
}

/// Control characters, and the marks that turn the direction of writing.
fn is_unprintable(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("{text}")]
    struct ChainedError {
        text: &'static str,
        source: Option<Box<ChainedError>>,
    }

    fn chained(text: &'static str, source: Option<ChainedError>) -> ChainedError {
        ChainedError { text, source: source.map(Box::new) }
    }

    #[test]
    fn what_a_terminal_would_obey_is_not_passed_on() {
        for (text, expected) in [
            ("a\u{1b}[2Jb", "a [2Jb"),
            ("one\r\ntwo\n", "one two"),
            ("bell\u{7}", "bell"),
            ("c1\u{9b}31m", "c1 31m"),
            ("evil\u{202e}txt", "evil txt"),
            ("  plain   words ", "plain words"),
        ] {
            assert_eq!(one_line(text), expected, "{text:?}");
        }
        assert_eq!(one_line(&"é".repeat(MAX_TEXT + 1)).chars().count(), MAX_TEXT + 1);
    }

    #[test]
    fn causes_are_told_once_each() {
        let error = chained("no token", Some(chained("no room", Some(chained("no room", None)))));
        assert_eq!(chain(&error), "no token: no room");
        assert_eq!(root_cause(&error), "no room");
    }
}
