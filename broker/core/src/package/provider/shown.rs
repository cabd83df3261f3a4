//! Prepares a text of a publisher for an error.

use stile_protocol::printable::is_unprintable;

/// Maximum number of characters of a publisher's text in an error.
const LONGEST: usize = 120;

/// Returns a text for an error: one line, at most 120 characters, no control characters.
pub(super) fn shown(text: &str) -> String {
    let plain = |c: char| if is_unprintable(c) || c == '`' { '?' } else { c };
    let mut shown: String = text.chars().take(LONGEST).map(plain).collect();
    if text.chars().nth(LONGEST).is_some() {
        shown.push('…');
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_in_an_error_has_one_short_line() {
        assert_eq!(shown("a\nb`\u{202e}"), "a?b??");
        assert_eq!(shown(&"x".repeat(121)), format!("{}…", "x".repeat(120)));
    }
}
