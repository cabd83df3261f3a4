//! One JSON object in which every field is known, present once and of its type.
//!
//! `serde`'s derived readers would do most of this, but they take an array for a struct, and their errors
//! repeat the value they refuse, which may be a secret. Errors here name the field and never its value.

use std::fmt;

use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::Value;

/// Why an object was refused: the field, and one plain clause about it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{problem}")]
pub struct FieldError {
    /// The field at fault, empty where the whole body is.
    pub field: String,
    /// A clause for the sender; holds no value that was sent.
    pub problem: String,
}

impl FieldError {
    /// A fault of one field, told as "`field` must be …".
    pub fn new(field: &str, must: impl fmt::Display) -> Self {
        Self { field: field.to_owned(), problem: format!("`{field}` must be {must}") }
    }

    fn whole(problem: impl Into<String>) -> Self {
        Self { field: String::new(), problem: problem.into() }
    }
}

/// The fields of one object, taken out one by one; what is left at the end is unknown.
#[derive(Debug)]
pub struct StrictObject {
    fields: Vec<(String, Value)>,
}

impl StrictObject {
    /// Reads exactly one JSON object: no byte order mark, no twin fields, nothing behind it.
    pub fn parse(bytes: &[u8]) -> Result<Self, FieldError> {
        let mut deserializer = serde_json::Deserializer::from_slice(bytes);
        let fields = deserializer.deserialize_map(FieldsVisitor).map_err(|error| {
            let text = error.to_string();
            match text.strip_prefix(TWIN) {
                Some(rest) => FieldError::whole(format!(
                    "field {} is there twice",
                    rest.split(" at line").next().unwrap_or_default()
                )),
                None => FieldError::whole("the body must be one JSON object in UTF-8"),
            }
        })?;
        deserializer
            .end()
            .map_err(|_| FieldError::whole("there is something behind the JSON object"))?;
        Ok(Self { fields })
    }

    /// Takes a field that must be there.
    pub fn take(&mut self, field: &str) -> Result<Value, FieldError> {
        self.take_optional(field).ok_or_else(|| FieldError {
            field: field.to_owned(),
            problem: format!("field `{field}` is missing"),
        })
    }

    /// Takes a field that may be absent; `null` is a value, not an absence.
    pub fn take_optional(&mut self, field: &str) -> Option<Value> {
        let at = self.fields.iter().position(|(name, _)| name == field)?;
        Some(self.fields.swap_remove(at).1)
    }

    /// Takes a string.
    pub fn string(&mut self, field: &str) -> Result<String, FieldError> {
        into_string(field, self.take(field)?)
    }

    /// Takes a string that may be absent.
    pub fn optional_string(&mut self, field: &str) -> Result<Option<String>, FieldError> {
        self.take_optional(field).map(|value| into_string(field, value)).transpose()
    }

    /// Takes an integer; `1.0` and `1e3` are not integers here.
    pub fn integer(&mut self, field: &str) -> Result<i64, FieldError> {
        self.take(field)?.as_i64().ok_or_else(|| FieldError::new(field, "an integer"))
    }

    /// Ends the reading: any field nobody took is an error.
    pub fn finish(self) -> Result<(), FieldError> {
        match self.fields.first() {
            None => Ok(()),
            Some((name, _)) => Err(FieldError {
                field: short(name),
                problem: format!("field `{}` is not known", short(name)),
            }),
        }
    }
}

/// The items of a list of strings.
pub fn string_list(field: &str, value: Value) -> Result<Vec<String>, FieldError> {
    let Value::Array(items) = value else {
        return Err(FieldError::new(field, "a list of strings"));
    };
    items
        .into_iter()
        .map(|item| match item {
            Value::String(text) => Ok(text),
            _ => Err(FieldError::new(field, "a list of strings")),
        })
        .collect()
}

fn into_string(field: &str, value: Value) -> Result<String, FieldError> {
    match value {
        Value::String(text) => Ok(text),
        _ => Err(FieldError::new(field, "a string")),
    }
}

/// An unknown name, cut and cleaned so that it may stand in a reply or a log line.
fn short(name: &str) -> String {
    name.chars().take(40).map(|c| if c.is_ascii_graphic() && c != '`' { c } else { '?' }).collect()
}

const TWIN: &str = "twin field ";

struct FieldsVisitor;

impl<'de> Visitor<'de> for FieldsVisitor {
    type Value = Vec<(String, Value)>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut fields: Vec<(String, Value)> = Vec::new();
        while let Some((name, value)) = map.next_entry::<String, Value>()? {
            if fields.iter().any(|(known, _)| *known == name) {
                return Err(serde::de::Error::custom(format!("{TWIN}`{}`", short(&name))));
            }
            // A message has a dozen fields; the bound keeps the search for twins from growing with the square.
            if fields.len() == 64 {
                return Err(serde::de::Error::custom("too many fields"));
            }
            fields.push((name, value));
        }
        Ok(fields)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(bytes: &[u8]) -> String {
        match StrictObject::parse(bytes) {
            Err(error) => error.problem,
            Ok(mut object) => match object.string("a") {
                Err(error) => error.problem,
                Ok(_) => object.finish().unwrap_err().problem,
            },
        }
    }

    #[test]
    fn anything_but_one_object_is_refused() {
        for body in
            ["", "null", "[]", "\"x\"", "1", "[\"a\"]", "\u{feff}{}", "{\"a\":\"b\"", "{'a':1}"]
        {
            assert_eq!(
                problem(body.as_bytes()),
                "the body must be one JSON object in UTF-8",
                "{body:?}"
            );
        }
        assert_eq!(problem(b"{\"a\":\"\xff\"}"), "the body must be one JSON object in UTF-8");
        assert_eq!(
            problem("[".repeat(10_000).as_bytes()),
            "the body must be one JSON object in UTF-8"
        );
        assert_eq!(problem(br#"{"a":"b"}{}"#), "there is something behind the JSON object");
        assert_eq!(problem(br#"{"a":"b"} x"#), "there is something behind the JSON object");
    }

    #[test]
    fn twin_missing_and_unknown_fields_are_named_without_their_values() {
        assert_eq!(problem(br#"{"a":"secret","a":"secret"}"#), "field `a` is there twice");
        assert_eq!(problem(br#"{"a":"x","\u0061":"secret"}"#), "field `a` is there twice");
        assert_eq!(problem(b"{}"), "field `a` is missing");
        assert_eq!(problem(br#"{"a":7}"#), "`a` must be a string");
        assert_eq!(problem(br#"{"a":"x","A":"secret"}"#), "field `A` is not known");
        assert_eq!(problem(b"{\"a\":\"x\",\"\\n`\\u001b[31m\":1}"), "field `???[31m` is not known");
    }

    #[test]
    fn an_integer_is_an_integer() {
        for (body, expected) in [
            ("1", Some(1)),
            ("-1", Some(-1)),
            ("1.0", None),
            ("1e3", None),
            ("\"1\"", None),
            ("9223372036854775808", None),
        ] {
            let mut object = StrictObject::parse(format!("{{\"n\":{body}}}").as_bytes()).unwrap();
            assert_eq!(object.integer("n").ok(), expected, "{body}");
        }
    }
}
