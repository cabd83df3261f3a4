//! The page that `show` prints for people: a name and a value in each line.

use std::fmt::Write as _;

use serde_json::Value;
use terraform_credentials_stile::message::one_line;

/// The width of the names in the first column.
const NAMES: usize = 21;

/// A page with a name and a value in each line. It has no control characters.
#[derive(Default)]
pub(super) struct Page(String);

impl Page {
    /// Returns the whole page.
    pub(super) fn into_text(self) -> String {
        self.0
    }

    /// Adds the state of a version, and what its publisher says about it. `taken_back` is the word for
    /// a version that is taken back. One that is also deprecated is taken back.
    /// A version whose signing key is compromised is only that.
    pub(super) fn life(&mut self, found: &Value, taken_back: &str) {
        let (back, deprecated) = (&found["unpublished"], &found["deprecation"]);
        let compromised = &found["compromised_key"];
        let state = if compromised.is_object() {
            "compromised"
        } else if back.is_object() {
            taken_back
        } else if deprecated.is_object() {
            "deprecated"
        } else {
            "published"
        };
        self.line("state", &Value::from(state));
        self.line("  signing key", &compromised["key_id"]);
        self.line("  since", &compromised["at"]);
        for (what, by) in [
            (back, ("unpublished_by", "unpublished_at")),
            (deprecated, ("deprecated_by", "deprecated_at")),
        ] {
            self.line("  reason", &what["reason"]);
            self.line("  link", &what["link"]);
            self.line("  use instead", &what["replacement"]);
            self.line("  by", &what[by.0]);
            self.line("  at", &what[by.1]);
        }
    }

    /// Adds what the environment of the publisher claims, which nobody verified.
    pub(super) fn claimed(&mut self, claimed: &Value) {
        for name in ["environment", "repository", "commit", "run"] {
            self.line(&format!("{name} (claimed)"), &claimed[name]);
        }
        let from = &claimed["promoted_from"];
        if from.is_object() {
            let registry = format!("promoted from {}", text(&from["registry"]));
            self.line("promotion (claimed)", &registry.into());
            self.line("  published by", &from["published_by"]);
            self.line("  published at", &from["published_at"]);
        }
    }

    /// Adds a line for a text or a number. Anything else, and an empty text, adds none.
    pub(super) fn line(&mut self, name: &str, value: &Value) {
        let value = text(value);
        if !value.is_empty() {
            let _infallible = writeln!(self.0, "{name:<NAMES$} {value}");
        }
    }

    /// Adds a line for each item of a list, with the name of the list in the first.
    pub(super) fn list(&mut self, name: &str, list: &Value, line: impl Fn(&Value) -> String) {
        let lines: Vec<String> = list.as_array().into_iter().flatten().map(line).collect();
        for (at, line) in lines.iter().filter(|line| !line.is_empty()).enumerate() {
            let name = if at == 0 { name } else { "" };
            let _infallible = writeln!(self.0, "{name:<NAMES$} {line}");
        }
    }
}

/// Returns a text or a number as one printable line.
pub(super) fn text(value: &Value) -> String {
    match value {
        Value::String(text) => one_line(text),
        Value::Number(number) => number.to_string(),
        _ => String::new(),
    }
}
