//! Checks the `crit` list of an object: the fields that a reader must understand.
//!
//! A newer program may add a field that restricts access, for example a grant for office hours only.
//! An older reader that ignores such a field would allow too much. So the writer lists every such
//! field in `crit`, and a reader that does not know one of them rejects the whole object. A reader
//! ignores every other unknown field. This is the rule of RFC 7515, section 4.1.11.

use serde_json::Value;

/// The name of the field with the list.
pub const CRIT: &str = "crit";

/// Returns whether a reader that knows the fields `known` understands every field that `crit` lists.
///
/// An absent list is valid: nothing in the object restricts access. An empty list, or a list that
/// contains something other than strings, is invalid: no program of this project writes one.
pub fn understood(crit: Option<&Value>, known: &[&str]) -> bool {
    let Some(crit) = crit else { return true };
    let names = crit.as_array().filter(|names| !names.is_empty());
    names.is_some_and(|names| {
        names.iter().all(|name| name.as_str().is_some_and(|name| known.contains(&name)))
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_reader_rejects_an_object_with_an_unknown_critical_field() {
        let known = ["exp", "ns"];
        for crit in [
            json!(["hours"]),
            json!(["exp", "hours"]),
            json!([]),
            json!("exp"),
            json!([1]),
            json!(null),
            json!({"exp": true}),
            json!(["EXP"]),
        ] {
            assert!(!understood(Some(&crit), &known), "{crit}");
        }
        for crit in [json!(["exp"]), json!(["ns", "exp"])] {
            assert!(understood(Some(&crit), &known), "{crit}");
        }
        assert!(understood(None, &known));
    }
}
