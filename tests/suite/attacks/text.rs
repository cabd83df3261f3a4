//! Texts of the corpus with values that only the running test knows: `«token»` is a good token,
//! `«a × 3»` is `aaa`.

use std::collections::BTreeMap;

/// The values that texts can name.
pub(super) type Values = BTreeMap<&'static str, String>;

/// Returns the text with a value for every `«…»`.
pub(super) fn expand(text: &str, values: &Values) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('«') {
        let (word, behind) = after.split_once('»').expect("every `«` has its `»`");
        out.push_str(before);
        match (word.rsplit_once(" × "), values.get(word)) {
            (Some((part, times)), _) => {
                let part = values.get(part).map_or(part, String::as_str);
                out.push_str(&part.repeat(times.parse().unwrap()));
            }
            (None, value) => {
                out.push_str(
                    value.ok_or_else(|| format!("`«{word}»` means nothing here")).unwrap(),
                );
            }
        }
        rest = behind;
    }
    out + rest
}

/// Does the same in a JSON value.
pub(super) fn expand_json(value: &serde_json::Value, values: &Values) -> serde_json::Value {
    use serde_json::Value;
    match value {
        Value::String(text) => Value::String(expand(text, values)),
        Value::Array(items) => items.iter().map(|item| expand_json(item, values)).collect(),
        Value::Object(fields) => {
            fields.iter().map(|(name, field)| (name.clone(), expand_json(field, values))).collect()
        }
        other => other.clone(),
    }
}

#[test]
fn what_stands_in_guillemets_is_written_out() {
    let values = Values::from([("token", "stile".to_owned())]);
    for (text, expected) in [
        ("", ""),
        ("a", "a"),
        ("«token»", "stile"),
        ("x«a × 3»y«token»", "xaaaystile"),
        ("«token × 2»", "stilestile"),
    ] {
        assert_eq!(expand(text, &values), expected);
    }
}
