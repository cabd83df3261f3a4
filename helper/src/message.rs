//! Formats errors for users: one line with all causes, without terminal control characters.

use std::error::Error;

/// Longest line that is shown, in characters.
const MAX_TEXT: usize = 800;

/// Joins an error and its causes with colons. It omits a cause whose text is already included.
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

/// Returns the text of the innermost cause.
pub fn root_cause(error: &dyn Error) -> String {
    let mut innermost = error;
    while let Some(cause) = innermost.source() {
        innermost = cause;
    }
    one_line(&innermost.to_string())
}

/// Reduces a text to one line of limited length without control characters.
///
/// A server's message is printed to a terminal, where an escape sequence could change what the user sees.
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

/// Tells whether a character is a control character or changes the text direction.
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
    fn control_characters_are_removed_and_long_text_is_cut() {
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
    fn each_cause_appears_once() {
        let error = chained("no token", Some(chained("no space", Some(chained("no space", None)))));
        assert_eq!(chain(&error), "no token: no space");
        assert_eq!(root_cause(&error), "no space");
    }
}
