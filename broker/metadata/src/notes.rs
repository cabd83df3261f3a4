//! Collects warnings and texts, within the limits of the result.

use stile_protocol::printable::is_invisible;

use crate::limits::Limits;
use crate::model::Warning;

/// Maximum number of warnings. One more says that there are others.
const MAX_WARNINGS: usize = 50;

/// Maximum length of a warning in bytes.
const MAX_WARNING_BYTES: usize = 300;

/// What an item costs in the result, in bytes, in addition to its texts.
const ITEM_BYTES: usize = 200;

/// The warnings so far, and how much the result can still hold.
pub(crate) struct Notes {
    warnings: Vec<Warning>,
    text_bytes: usize,
    output_left: usize,
    is_full: bool,
    has_warned_of_space: bool,
}

impl Notes {
    pub(crate) const fn new(limits: &Limits) -> Self {
        Self {
            warnings: Vec::new(),
            text_bytes: limits.text_bytes,
            output_left: limits.output_bytes,
            is_full: false,
            has_warned_of_space: false,
        }
    }

    /// Returns whether another warning would be a part of the result.
    pub(crate) const fn takes_warnings(&self) -> bool {
        self.warnings.len() <= MAX_WARNINGS
    }

    /// Returns the maximum length of one text in bytes.
    pub(crate) const fn text_limit(&self) -> usize {
        self.text_bytes
    }

    /// Warns once that the module says more than fits.
    pub(crate) fn warn_of_space(&mut self) {
        if !self.has_warned_of_space {
            self.warn(None, "the module says more than the registry keeps; the rest is left out");
        }
        self.has_warned_of_space = true;
    }

    /// Adds a warning: one sentence whose subject is the file, if there is one.
    pub(crate) fn warn(&mut self, file: Option<&str>, message: &str) {
        match self.warnings.len() {
            count if count > MAX_WARNINGS => {}
            MAX_WARNINGS => self.warnings.push(Warning {
                file: None,
                message: "there are more warnings than the registry keeps".to_owned(),
            }),
            _ => self.warnings.push(Warning {
                file: file.map(str::to_owned),
                message: cut(plain(message).replace(['\n', '\t'], " "), MAX_WARNING_BYTES),
            }),
        }
    }

    pub(crate) fn into_warnings(self) -> Vec<Warning> {
        self.warnings
    }

    /// Returns whether something did not fit into the result.
    pub(crate) const fn is_full(&self) -> bool {
        self.is_full
    }

    /// Counts one item, and returns whether the result can hold it.
    pub(crate) fn item(&mut self) -> bool {
        self.take(ITEM_BYTES)
    }

    /// Returns a text for the result: without control characters, and cut off at its limit.
    ///
    /// It returns an empty text if the result is full.
    pub(crate) fn text(&mut self, text: &str) -> String {
        self.bounded(text, self.text_bytes)
    }

    /// Returns a text like [`Self::text`], with another limit of its length in bytes.
    pub(crate) fn bounded(&mut self, text: &str, bytes: usize) -> String {
        let text = cut(plain(text), bytes);
        let escapes = text.bytes().filter(|byte| matches!(byte, b'"' | b'\\' | b'\n' | b'\t'));
        if self.take(text.len() + escapes.count()) { text } else { String::new() }
    }

    fn take(&mut self, bytes: usize) -> bool {
        match self.output_left.checked_sub(bytes) {
            Some(left) if !self.is_full => {
                self.output_left = left;
                true
            }
            _ => {
                self.warn_of_space();
                self.is_full = true;
                false
            }
        }
    }
}

/// Replaces control characters, except line feeds and tabs, and leaves out characters that print as
/// nothing. A program may print the text to a terminal.
fn plain(text: &str) -> String {
    let text = text.replace("\r\n", "\n");
    text.chars()
        .filter(|c| !is_invisible(*c))
        .map(|c| if c.is_control() && !matches!(c, '\n' | '\t') { '\u{fffd}' } else { c })
        .collect()
}

/// Cuts off a text at a number of bytes, and marks that with `…`.
fn cut(mut text: String, bytes: usize) -> String {
    if text.len() > bytes {
        text.truncate(text.floor_char_boundary(bytes.saturating_sub('…'.len_utf8())));
        text.push('…');
    }
    text
}
