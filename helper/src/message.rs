//! Formats errors for users: one line with all causes, without terminal control characters.

use std::borrow::Cow;
use std::error::Error;

use stile_protocol::printable::is_unprintable;
use stile_protocol::request_id::is_id;

/// Longest line that is shown, in characters.
const MAX_TEXT: usize = 800;

/// The text before the id of a request in a message. A `)` follows it.
const BEFORE_ID: &str = " (request id: ";

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

/// Adds the id of a request to the message of a broker, before its hint if it has one. An error ends
/// with its hint.
pub fn with_request_id(message: &str, id: Option<&str>) -> String {
    let Some(id) = id else { return message.to_owned() };
    match message.split_once("; hint: ") {
        Some((message, hint)) => format!("{message}{BEFORE_ID}{id}); hint: {hint}"),
        None => format!("{message}{BEFORE_ID}{id})"),
    }
}

/// Splits the id of a request off a message without a hint.
pub fn split_request_id(message: &str) -> (&str, Option<&str>) {
    let found = message.strip_suffix(')').and_then(|text| text.rsplit_once(BEFORE_ID));
    match found {
        Some((text, id)) if is_id(id) => (text, Some(id)),
        _ => (message, None),
    }
}

/// Removes all ids of requests from a text, to compare failures: each attempt has another id.
pub fn without_request_ids(text: &str) -> String {
    let mut parts = text.split(BEFORE_ID);
    let mut kept = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        match part.split_once(')') {
            Some((id, rest)) if is_id(id) => kept.push_str(rest),
            _ => {
                kept.push_str(BEFORE_ID);
                kept.push_str(part);
            }
        }
    }
    kept
}

/// Replaces control characters, also line ends, by spaces. Everything else stays, in full length.
///
/// The name of a file can contain an escape sequence, too.
pub fn printable(text: &str) -> Cow<'_, str> {
    if text.contains(is_unprintable) {
        text.replace(is_unprintable, " ").into()
    } else {
        text.into()
    }
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
    fn the_id_of_a_request_ends_the_message_and_stands_before_the_hint() {
        for (message, id, expected) in [
            ("no", None, "no"),
            ("no; hint: ask", None, "no; hint: ask"),
            ("no", Some("1a"), "no (request id: 1a)"),
            ("no; hint: ask", Some("1a"), "no (request id: 1a); hint: ask"),
        ] {
            let shown = with_request_id(message, id);
            assert_eq!(shown, expected);
            assert_eq!(without_request_ids(&shown), message);
        }
        assert_eq!(split_request_id("no (request id: 1a)"), ("no", Some("1a")));
        for message in ["no", "no (request id: )", "no (request id: a b)", "(request id: 1a) no"] {
            assert_eq!(split_request_id(message), (message, None));
        }
        for (text, expected) in [
            ("a (request id: 1a) b\na (request id: 2) b", "a b\na b"),
            ("a (request id: 1 2) b (request id: 1", "a (request id: 1 2) b (request id: 1"),
        ] {
            assert_eq!(without_request_ids(text), expected);
        }
    }

    #[test]
    fn a_printable_text_keeps_its_length_and_has_no_control_characters() {
        assert_eq!(printable("a\u{1b}]0;x\u{7}\u{202e}\u{61c}b\nc"), "a ]0;x   b c");
        let long = "é".repeat(MAX_TEXT + 1);
        assert_eq!(printable(&long), long);
    }

    #[test]
    fn each_cause_appears_once() {
        let error = chained("no token", Some(chained("no space", Some(chained("no space", None)))));
        assert_eq!(chain(&error), "no token: no space");
        assert_eq!(root_cause(&error), "no space");
    }
}
