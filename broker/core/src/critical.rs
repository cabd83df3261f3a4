//! Decides whether a reader may ignore what it does not know in a stored or sent object, by the object's `crit` list.
//!
//! A newer program may add a field that restricts: a grant that counts in office hours only, a token for one address only.
//! An older reader that ignored such a field would allow too much. So the writer names every such field in `crit`, and a
//! reader that does not know a name there refuses the whole object. Every other unknown field is ignored, so that formats
//! can grow. This is the rule of RFC 7515, section 4.1.11.

use serde_json::Value;

/// The field that lists the names.
pub const CRIT: &str = "crit";

/// Whether a reader that knows the fields `known` understands everything that `crit` lists.
///
/// No list means that nothing in the object restricts. An empty list, or a list of anything but names, is not one that
/// this project writes, and is not understood.
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
    fn an_object_is_refused_where_it_lists_what_the_reader_does_not_know() {
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
