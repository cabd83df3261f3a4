//! The id of a request: the header of an answer that has it, and its place in the text of an error.

use std::fmt;

use serde::{Deserialize, Deserializer};

/// The header of an answer with the id of its request.
pub const HEADER: &str = "x-request-id";

/// The longest text that counts as an id. A broker of this release sends 16 characters.
const LONGEST: usize = 64;

/// The text between the sentence of an error and the id.
const SEPARATOR: &str = "; request id: ";

/// Adds an id to the end of a sentence, for an error body without fields.
pub fn append(sentence: &str, id: &str) -> String {
    format!("{sentence}{SEPARATOR}{id}")
}

/// Splits the id off a sentence with one at its end. An earlier broker sends none.
pub fn split(sentence: &str) -> (&str, Option<&str>) {
    match sentence.rsplit_once(SEPARATOR) {
        Some((before, id)) if is_id(id) => (before, Some(id)),
        _ => (sentence, None),
    }
}

/// Returns whether a text can be an id: at most 64 letters, digits and dashes. So a client can print
/// it, whatever the server sent.
pub fn is_id(text: &str) -> bool {
    (1..=LONGEST).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
}

/// The id of a request, checked by [`is_id`]. So it can be a part of a key, of a line and of a URL.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct RequestId(String);

impl RequestId {
    /// Parses an id. `None` if the text cannot be one.
    pub fn parse(text: &str) -> Option<Self> {
        is_id(text).then(|| Self(text.to_owned()))
    }

    /// Returns the id with these bytes: 16 hexadecimal digits, as a broker sends it.
    pub fn from_bytes(bytes: [u8; 8]) -> Self {
        Self(hex::encode(bytes))
    }

    /// Returns the id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// Reads an id. Any other value counts as none: an error stays readable, whatever its id is.
pub(crate) fn id_or_none<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<String>, D::Error> {
    let value = serde_json::Value::deserialize(deserializer)?;
    Ok(value.as_str().filter(|text| is_id(text)).map(str::to_owned))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_id_at_the_end_of_a_sentence_is_split_off() {
        let long = format!("no; request id: {}", "a".repeat(65));
        for text in [
            "",
            "no",
            "no; hint: ask",
            "64ee87ba88f3e21a",
            "no; request id: ",
            "no; request id: a b",
            "no; request id: a\u{1b}[2J",
            "no; request id: 64ee87ba88f3e21a; hint: ask",
            "no; request id: 64ee87ba88f3e21a.",
            &long,
        ] {
            assert_eq!(split(text), (text, None));
        }
        for (sentence, id) in [
            ("no", "64ee87ba88f3e21a"),
            ("no; hint: ask", "8476a536-e9f4-11e8-9739-2dfe598c3fcd"),
            ("no; request id: 1", "2"),
        ] {
            assert_eq!(split(&append(sentence, id)), (sentence, Some(id)));
        }
    }
}
