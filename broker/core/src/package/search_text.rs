//! The text by which a version of a module is found, as much of it as is searched.

use std::collections::BTreeSet;

use icu_normalizer::ComposingNormalizerBorrowed;
use icu_normalizer::properties::CanonicalCombiningClassMapBorrowed;
use serde_json::{Value, json};
use stile_protocol::printable::is_invisible;

/// The most characters of a description.
const MAX_DESCRIPTION: usize = 300;

/// The most inputs of a module that are found.
const MAX_INPUTS: usize = 200;

/// The most words of a README that are found.
const MAX_WORDS: usize = 200;

/// The most bytes of all inputs, and of all words. The search keeps them in memory.
const MAX_BYTES: usize = 4 << 10;

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
            let plain = text.chars().filter(|c| !is_invisible(*c));
            let plain = plain.map(|c| if c.is_control() { ' ' } else { c });
            plain.take(MAX_DESCRIPTION).collect::<String>().trim().to_owned()
        });
        let inputs = inputs.into_iter().filter(|name| name.len() <= *WORD.end());
        let mut seen = BTreeSet::new();
        let words = words_of(readme).into_iter().filter(|word| seen.insert(word.clone()));
        Self {
            description: description.filter(|text| !text.is_empty()),
            inputs: bounded(inputs.take(MAX_INPUTS).map(str::to_owned)),
            words: bounded(words.take(MAX_WORDS)),
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
    /// The words of the README are as [`Self::new`] found them, so they are not split here: a search
    /// reads the texts of thousands of modules.
    pub fn read(value: &Value) -> Self {
        let text = |name: &str| value.get(name).and_then(Value::as_str);
        let inputs = value.get("inputs").and_then(Value::as_array).into_iter().flatten();
        let words = text("words").unwrap_or_default().split(' ');
        let words = words.filter(|word| (1..=MAX_WORD_BYTES).contains(&word.len()));
        let rest = Self::new(text("description"), inputs.filter_map(Value::as_str), "");
        Self { words: bounded(words.take(MAX_WORDS).map(str::to_owned)), ..rest }
    }
}

/// Takes texts as long as there is space for them.
fn bounded(texts: impl Iterator<Item = String>) -> Vec<String> {
    let mut left = MAX_BYTES;
    let fits = |text: &String| {
        let after = left.checked_sub(text.len());
        left = after.unwrap_or_default();
        after.is_some()
    };
    texts.take_while(fits).collect()
}

/// Splits a text into words of letters, their marks, and digits, in lower case. An underscore or a
/// hyphen separates, too.
///
/// A word has one form for all ways to write its letters: `é` can be one character or two, and `İ`
/// counts as `i`.
pub(crate) fn split_words(text: &str) -> Vec<String> {
    let composed = ComposingNormalizerBorrowed::new_nfkc();
    let visible: String = text.chars().filter(|c| !is_invisible(*c)).collect();
    let lower = lower_case(&composed.normalize(&visible)).replace("i\u{307}", "i");
    let text = composed.normalize(&lower);
    let classes = CanonicalCombiningClassMapBorrowed::new();
    let is_of_a_word = |c: char| c.is_alphanumeric() || classes.get_u8(c) != 0;
    let words = text.split(|c| !is_of_a_word(c)).filter(|word| !word.is_empty());
    words.map(str::to_owned).collect()
}

/// Returns a text in lower case, also if it is not ASCII.
#[expect(
    clippy::disallowed_methods,
    reason = "the words of a text are not names, and nothing is decided by them"
)]
fn lower_case(text: &str) -> String {
    text.to_lowercase()
}

/// Returns the words of a text that are neither too short nor too long.
pub(crate) fn words_of(text: &str) -> Vec<String> {
    let mut words = split_words(text);
    words.retain(|word| WORD.contains(&word.chars().count()));
    words
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
        let hidden =
            SearchText::new(Some("a\u{202e}b\u{200b}\u{61c}c\u{ad}"), [], "soft\u{ad}ware");
        assert_eq!(hidden.description.as_deref(), Some("abc"));
        assert_eq!(hidden.words, ["software"]);
        assert_eq!(SearchText::read(&text.to_json().unwrap()), text);
        assert_eq!(SearchText::default().to_json(), None);
        for malformed in
            [json!(7), json!({"description": 7, "inputs": [7], "words": []}), json!({"more": 1})]
        {
            assert_eq!(SearchText::read(&malformed), SearchText::default());
        }
    }

    #[test]
    fn long_words_and_inputs_take_no_more_than_a_few_kilobytes() {
        let long = |n: usize| format!("{n:03}{}", "\u{1d4d0}".repeat(37));
        let wide = |n: usize| char::from_u32(0x2_0000 + n as u32).unwrap().to_string().repeat(40);
        let readme: String = (0..300).map(|n| wide(n) + " " + &long(n) + " ").collect();
        let inputs: Vec<String> = (0..300).map(|n| format!("{n:040}")).collect();
        let text = SearchText::new(None, inputs.iter().map(String::as_str), &readme);
        for texts in [text.words(), text.inputs()] {
            let bytes: usize = texts.iter().map(String::len).sum();
            assert!((3 << 10..=4 << 10).contains(&bytes), "{bytes}");
        }
        assert_eq!(SearchText::read(&text.to_json().unwrap()), text);
    }

    #[test]
    fn a_word_has_one_form_for_all_ways_to_write_its_letters() {
        for (forms, expected) in [
            (&["caf\u{e9}", "cafe\u{301}", "CAFE\u{301}", "CAF\u{c9}"][..], "caf\u{e9}"),
            (&["\u{130}stanbul", "I\u{307}stanbul", "istanbul"], "istanbul"),
            (&["\u{ff36}\u{ff30}\u{ff23}", "vpc"], "vpc"),
            (&["\u{1e9}", "k\u{30c}", "K\u{30c}"], "\u{1e9}"),
        ] {
            for form in forms {
                assert_eq!(split_words(form), [expected], "{form}");
                assert_eq!(split_words(&split_words(form).join(" ")), [expected], "{form}");
            }
        }
        assert_eq!(split_words("a_b-c, d1 \u{301}"), ["a", "b", "c", "d1", "\u{301}"]);
    }
}
