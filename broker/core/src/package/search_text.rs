//! The text by which a version of a module is found, as much of it as is searched.

use std::collections::BTreeSet;

use serde_json::{Value, json};

/// The most characters of a description.
const MAX_DESCRIPTION: usize = 300;

/// The most inputs of a module that are found.
const MAX_INPUTS: usize = 200;

/// The most words of a README that are found.
const MAX_WORDS: usize = 200;

/// The characters of the shortest and of the longest word that is found.
const WORD: std::ops::RangeInclusive<usize> = 2..=40;

/// The most bytes of a word.
const MAX_WORD_BYTES: usize = 4 * 40;

/// The text by which a version is found. It is bounded, whatever the module says.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SearchText {
    /// The description, if the module has one.
    pub description: Option<String>,
    inputs: Vec<String>,
    /// Each word once, in the order of the README.
    words: Vec<String>,
}

impl SearchText {
    /// Takes as much of the texts as is searched.
    pub fn new<'a>(
        description: Option<&str>,
        inputs: impl IntoIterator<Item = &'a str>,
        readme: &str,
    ) -> Self {
        let description = description.map(|text| {
            let plain = text.chars().map(|c| if c.is_control() { ' ' } else { c });
            plain.take(MAX_DESCRIPTION).collect::<String>().trim().to_owned()
        });
        let inputs = inputs.into_iter().filter(|name| name.len() <= *WORD.end());
        let mut seen = BTreeSet::new();
        let words = words_of(readme).filter(|word| seen.insert(word.clone()));
        Self {
            description: description.filter(|text| !text.is_empty()),
            inputs: inputs.take(MAX_INPUTS).map(str::to_owned).collect(),
            words: words.take(MAX_WORDS).collect(),
        }
    }

    /// Returns the names of the inputs.
    pub fn inputs(&self) -> &[String] {
        &self.inputs
    }

    /// Returns the words of the README, each once.
    pub fn words(&self) -> &[String] {
        &self.words
    }

    /// Returns the form for the store. `None` if there is no text.
    pub fn to_json(&self) -> Option<Value> {
        let empty = *self == Self::default();
        (!empty).then(|| {
            json!({"description": self.description, "inputs": self.inputs, "words": self.words.join(" ")})
        })
    }

    /// Reads the form of the store. What is malformed counts as missing: it only finds less.
    ///
    /// The words of the README are as [`Self::new`] found them, so they are not split again: a search
    /// reads the texts of thousands of modules.
    pub fn read(value: &Value) -> Self {
        let text = |name: &str| value.get(name).and_then(Value::as_str);
        let inputs = value.get("inputs").and_then(Value::as_array).into_iter().flatten();
        let words = text("words").unwrap_or_default().split(' ');
        let words = words.filter(|word| (1..=MAX_WORD_BYTES).contains(&word.len()));
        let rest = Self::new(text("description"), inputs.filter_map(Value::as_str), "");
        Self { words: words.take(MAX_WORDS).map(str::to_owned).collect(), ..rest }
    }
}

/// Splits a text into words of letters and digits. An underscore or a hyphen separates, too.
pub(crate) fn split_words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty())
}

/// Returns a word in lower case, also if it is not ASCII.
#[expect(
    clippy::disallowed_methods,
    reason = "the words of a text are not names, and nothing is decided by them"
)]
pub(crate) fn lower_case(word: &str) -> String {
    word.to_lowercase()
}

/// Returns the words of a text that are neither too short nor too long, in lower case.
pub(crate) fn words_of(text: &str) -> impl Iterator<Item = String> {
    split_words(text).map(lower_case).filter(|word| WORD.contains(&word.chars().count()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_bounded_and_read_as_it_was_written() {
        let long: String = (0..1000).map(|n| format!("word{n} ")).collect();
        let inputs: Vec<String> = (0..1000).map(|n| format!("input_{n}")).collect();
        let text = SearchText::new(
            Some(&format!("a\u{1b}\n{}", "é".repeat(1000))),
            inputs.iter().map(String::as_str),
            &format!("word1 {long} {}", "y".repeat(100)),
        );
        assert_eq!((text.inputs.len(), text.words.len()), (200, 200));
        assert!(text.description.as_ref().unwrap().chars().count() <= 300);
        assert!(!text.description.as_ref().unwrap().contains('\u{1b}'));
        assert_eq!(SearchText::read(&text.to_json().unwrap()), text);
        assert_eq!(SearchText::default().to_json(), None);
        for malformed in
            [json!(7), json!({"description": 7, "inputs": [7], "words": []}), json!({"more": 1})]
        {
            assert_eq!(SearchText::read(&malformed), SearchText::default());
        }
    }
}
