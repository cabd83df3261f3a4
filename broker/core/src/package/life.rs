//! The life of a version: published, then deprecated, then unpublished. Each step can be undone.
//!
//! A deprecated version stays in the list of versions, and clients get it as before. An unpublished
//! version leaves the list, and no client gets it. Its number stays taken, so other bytes can never
//! have it.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use stile_protocol::printable::is_unprintable;
use stile_protocol::strict_json::{FieldError, StrictObject};

use super::{PackageAddress, Version};
use crate::critical::{self, CRIT};

/// The most characters of a reason. Terraform prints it in one line of a terminal.
const MAX_REASON: usize = 500;

/// The most characters of a link.
const MAX_LINK: usize = 500;

/// The field of a stored life that restricts: a reader that does not know it would serve the version.
const UNPUBLISHED: &str = "unpublished";

/// Why a publisher deprecates or unpublishes a version, and what to use in its place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Explanation {
    /// The reason: one line without control characters.
    pub reason: String,
    /// A page that says more, as an `https` URL without a user.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub link: Option<String>,
    /// What to use in its place: another version of the same package, or the address of another one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replacement: Option<String>,
}

impl Explanation {
    /// Parses `{"reason": …, "link"?: …, "replacement"?: …}`.
    ///
    /// # Errors
    ///
    /// [`FieldError`], if a field is missing, malformed or unknown.
    pub fn parse(body: &[u8]) -> Result<Self, FieldError> {
        let mut object = StrictObject::parse(body)?;
        let reason = object.string("reason")?;
        let link = object.optional_string("link")?;
        let replacement = object.optional_string("replacement")?;
        object.finish()?;
        let reason = reason.trim().to_owned();
        if reason.is_empty()
            || reason.chars().count() > MAX_REASON
            || reason.chars().any(is_unprintable)
            || !reason.chars().any(char::is_alphanumeric)
        {
            return Err(FieldError::new(
                "reason",
                format!("one line of 1 to {MAX_REASON} printable characters"),
            ));
        }
        if link.as_deref().is_some_and(|link| !is_link(link)) {
            return Err(FieldError::new(
                "link",
                format!("an `https` URL of at most {MAX_LINK} characters, without a user"),
            ));
        }
        if replacement.as_deref().is_some_and(|text| !is_replacement(text)) {
            return Err(FieldError::new(
                "replacement",
                "a version such as `1.3.0`, or an address such as `acme/vpc/aws` or `acme/dns`",
            ));
        }
        Ok(Self { reason, link, replacement })
    }

    /// Returns the explanation as a part of a sentence: the reason, the link and the replacement.
    pub fn sentence(&self) -> String {
        let mut text = self.reason.trim_end_matches('.').to_owned();
        if let Some(link) = &self.link {
            text.push_str(&format!(" ({link})"));
        }
        if let Some(replacement) = &self.replacement {
            text.push_str(&format!("; use `{replacement}`"));
        }
        text
    }
}

/// Returns whether a text is an `https` URL without a user, in printable ASCII.
pub(super) fn is_link(text: &str) -> bool {
    let plain = text.len() <= MAX_LINK && text.bytes().all(|b| b.is_ascii_graphic());
    let url = text.strip_prefix("https://");
    plain
        && url.is_some_and(|rest| {
            let host = rest.split(['/', '?', '#']).next().unwrap_or_default();
            !host.is_empty() && !host.contains(['@', '\\'])
        })
}

fn is_replacement(text: &str) -> bool {
    Version::parse(text).is_ok() || PackageAddress::parse(text).is_some()
}

/// A step in the life of a version, with who took it and when.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// The explanation of the publisher.
    #[serde(flatten)]
    pub explanation: Explanation,
    /// The principal that took the step.
    pub by: String,
    /// The time of the step, in Unix seconds.
    pub at: i64,
}

/// How far a version is in its life. The default is a version that is published, and nothing else.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Life {
    /// Set if the version is deprecated.
    pub deprecated: Option<Step>,
    /// Set if the version is unpublished.
    pub unpublished: Option<Step>,
    /// Fields that a newer program added.
    unknown: Map<String, Value>,
}

/// A change of a version's life.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LifeChange {
    /// Warn those who use the version.
    Deprecate(Explanation),
    /// Take the warning back.
    Undeprecate,
    /// Take the version out of the list, and give it to nobody.
    Unpublish(Explanation),
    /// Put the version back into the list.
    Restore,
}

impl LifeChange {
    /// Returns the explanation, if the change has one.
    pub const fn explanation(&self) -> Option<&Explanation> {
        match self {
            Self::Deprecate(explanation) | Self::Unpublish(explanation) => Some(explanation),
            Self::Undeprecate | Self::Restore => None,
        }
    }
}

impl Life {
    /// Returns the life after a change. `None` if the change changes nothing.
    pub fn after(&self, change: LifeChange, by: &str, at: i64) -> Option<Self> {
        let step = |explanation| Some(Step { explanation, by: by.to_owned(), at });
        let mut next = self.clone();
        match change {
            LifeChange::Deprecate(explanation) => next.deprecated = step(explanation),
            LifeChange::Undeprecate => next.deprecated = None,
            LifeChange::Unpublish(explanation) => next.unpublished = step(explanation),
            LifeChange::Restore => next.unpublished = None,
        }
        let explained = |step: &Option<Step>| step.as_ref().map(|step| step.explanation.clone());
        let of = |life: &Self| (explained(&life.deprecated), explained(&life.unpublished));
        (of(self) != of(&next)).then_some(next)
    }

    /// Returns the text for the store. `None` for a version that is published, and nothing else.
    pub fn to_text(&self) -> Option<String> {
        let mut fields = self.unknown.clone();
        for (name, step) in [("deprecated", &self.deprecated), (UNPUBLISHED, &self.unpublished)] {
            if let Some(step) = step {
                fields.insert(name.to_owned(), serde_json::to_value(step).ok()?);
            }
        }
        if self.unpublished.is_some() {
            fields.insert(CRIT.to_owned(), Value::from(vec![UNPUBLISHED]));
        }
        (!fields.is_empty()).then(|| Value::Object(fields).to_string())
    }

    /// Reads the text from the store. `None` if it is malformed, or a newer program added a step that
    /// this one must understand.
    pub fn read(text: &str) -> Option<Self> {
        let mut fields: Map<String, Value> = serde_json::from_str(text).ok()?;
        let crit = fields.remove(CRIT);
        if !critical::understood(crit.as_ref(), &[UNPUBLISHED]) {
            return None;
        }
        let mut step = |name: &str| match fields.remove(name) {
            None => Some(None),
            Some(value) => serde_json::from_value(value).ok().map(Some),
        };
        let (deprecated, unpublished): (Option<Step>, Option<Step>) =
            (step("deprecated")?, step(UNPUBLISHED)?);
        // A step that is named and missing would be a restriction that nobody keeps.
        let is_kept = crit.is_none() || unpublished.is_some();
        is_kept.then_some(Self { deprecated, unpublished, unknown: fields })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn explained(reason: &str) -> Explanation {
        Explanation { reason: reason.to_owned(), link: None, replacement: None }
    }

    #[test]
    fn the_error_for_a_malformed_explanation_names_the_field() {
        let long = "x".repeat(501);
        for (body, field) in [
            (json!([]), ""),
            (json!({}), "reason"),
            (json!({"reason": 7}), "reason"),
            (json!({"reason": "  "}), "reason"),
            (json!({"reason": long}), "reason"),
            (json!({"reason": "two\nlines"}), "reason"),
            (json!({"reason": "\u{1b}[31mred"}), "reason"),
            (json!({"reason": "left \u{202E}right"}), "reason"),
            (json!({"reason": "\u{200B}\u{FEFF}"}), "reason"),
            (json!({"reason": "..."}), "reason"),
            (json!({"reason": "x", "link": "http://example.com"}), "link"),
            (json!({"reason": "x", "link": "https://"}), "link"),
            (json!({"reason": "x", "link": "https://user@example.com/"}), "link"),
            (json!({"reason": "x", "link": "https://example.com/a b"}), "link"),
            (json!({"reason": "x", "link": "javascript:alert(1)"}), "link"),
            (json!({"reason": "x", "link": format!("https://example.com/{long}")}), "link"),
            (json!({"reason": "x", "replacement": "1.0"}), "replacement"),
            (json!({"reason": "x", "replacement": "acme"}), "replacement"),
            (json!({"reason": "x", "replacement": "~> 1.0"}), "replacement"),
            (json!({"reason": "x", "by": "me"}), "by"),
        ] {
            let error = Explanation::parse(body.to_string().as_bytes()).unwrap_err();
            assert_eq!(error.field, field, "{body}");
        }
    }

    #[test]
    fn an_explanation_becomes_a_sentence() {
        for (body, expected) in [
            (json!({"reason": " It leaks. "}), "It leaks"),
            (json!({"reason": "x", "replacement": "1.3.0"}), "x; use `1.3.0`"),
            (
                json!({"reason": "x", "link": "https://example.com/a?b=c#d", "replacement": "acme/vpc/aws"}),
                "x (https://example.com/a?b=c#d); use `acme/vpc/aws`",
            ),
        ] {
            let explanation = Explanation::parse(body.to_string().as_bytes()).unwrap();
            assert_eq!(explanation.sentence(), expected);
        }
    }

    #[test]
    fn a_life_is_read_as_it_was_written_with_what_a_newer_program_added() {
        let plain = Life::default();
        assert_eq!(plain.to_text(), None);
        let deprecated = plain.after(LifeChange::Deprecate(explained("old")), "role/a", 7).unwrap();
        let unpublished =
            deprecated.after(LifeChange::Unpublish(explained("bad")), "role/b", 8).unwrap();
        for life in [&deprecated, &unpublished] {
            assert_eq!(Life::read(&life.to_text().unwrap()).as_ref(), Some(life));
        }
        let newer = r#"{"deprecated":{"reason":"old","by":"x","at":7,"mood":1},"archived":true}"#;
        let read = Life::read(newer).unwrap();
        let restored = read.after(LifeChange::Undeprecate, "x", 9).unwrap();
        assert_eq!(restored.to_text().as_deref(), Some(r#"{"archived":true}"#));
    }

    #[test]
    fn a_life_that_this_program_does_not_understand_is_not_read() {
        for text in [
            "",
            "[]",
            "{",
            r#"{"deprecated":true}"#,
            r#"{"deprecated":{"reason":"x"}}"#,
            r#"{"unpublished":{"reason":"x","by":"x","at":"7"}}"#,
            r#"{"crit":["unpublished"]}"#,
            r#"{"crit":["quarantined"],"quarantined":true}"#,
            r#"{"crit":[]}"#,
        ] {
            assert_eq!(Life::read(text), None, "{text}");
        }
    }

    #[test]
    fn a_change_that_changes_nothing_is_distinguished_from_one_that_does() {
        let plain = Life::default();
        let deprecated = plain.after(LifeChange::Deprecate(explained("a")), "x", 1).unwrap();
        let both = deprecated.after(LifeChange::Unpublish(explained("b")), "x", 2).unwrap();
        for (before, change, expected) in [
            (&plain, LifeChange::Undeprecate, None),
            (&plain, LifeChange::Restore, None),
            (&deprecated, LifeChange::Deprecate(explained("a")), None),
            (&deprecated, LifeChange::Undeprecate, Some((None, None))),
            (&deprecated, LifeChange::Deprecate(explained("c")), Some((Some("c"), None))),
            (&both, LifeChange::Unpublish(explained("b")), None),
            (&both, LifeChange::Restore, Some((Some("a"), None))),
            (&both, LifeChange::Undeprecate, Some((None, Some("b")))),
        ] {
            let after = before.after(change.clone(), "y", 3);
            let reason = |step: Option<Step>| step.map(|step| step.explanation.reason);
            let found = after.map(|life| (reason(life.deprecated), reason(life.unpublished)));
            let expected =
                expected.map(|(deprecated, unpublished): (Option<&str>, Option<&str>)| {
                    (deprecated.map(str::to_owned), unpublished.map(str::to_owned))
                });
            assert_eq!(found, expected, "{change:?}");
        }
    }
}
