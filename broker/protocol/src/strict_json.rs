//! Parses a JSON object and rejects unknown, duplicate or mistyped fields.
//!
//! Derived `serde` parsers are not strict enough: they accept an array for a struct, and their errors
//! repeat the rejected value, which may be a secret. Errors here name the field, never its value.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

/// Why an object is invalid: the field and the problem.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{problem}")]
pub struct FieldError {
    /// The invalid field. It is empty if the whole body is invalid.
    pub field: String,
    /// The problem in words. It contains no value from the body.
    pub problem: String,
}

impl FieldError {
    /// Creates the error "`field` must be …".
    pub fn new(field: &str, must: impl fmt::Display) -> Self {
        Self { field: field.to_owned(), problem: format!("`{field}` must be {must}") }
    }

    fn whole(problem: impl Into<String>) -> Self {
        Self { field: String::new(), problem: problem.into() }
    }
}

/// The fields of an object. The caller takes the known ones; the rest is unknown.
#[derive(Debug)]
pub struct StrictObject {
    fields: Vec<(String, Value)>,
}

impl StrictObject {
    /// Parses exactly one JSON object without byte order mark, duplicate fields or data after it.
    pub fn parse(bytes: &[u8]) -> Result<Self, FieldError> {
        let mut deserializer = serde_json::Deserializer::from_slice(bytes);
        let fields = deserializer.deserialize_map(FieldsVisitor).map_err(|error| {
            let text = error.to_string();
            match text.strip_prefix(DUPLICATE) {
                Some(rest) => FieldError::whole(format!(
                    "field {} appears twice",
                    rest.split(" at line").next().unwrap_or_default()
                )),
                None => FieldError::whole("the body must be one JSON object in UTF-8"),
            }
        })?;
        deserializer.end().map_err(|_| FieldError::whole("there is data after the JSON object"))?;
        Ok(Self { fields })
    }

    /// Takes a required field.
    pub fn take(&mut self, field: &str) -> Result<Value, FieldError> {
        self.take_optional(field).ok_or_else(|| FieldError {
            field: field.to_owned(),
            problem: format!("field `{field}` is missing"),
        })
    }

    /// Takes an optional field. `null` counts as a value.
    pub fn take_optional(&mut self, field: &str) -> Option<Value> {
        let at = self.fields.iter().position(|(name, _)| name == field)?;
        Some(self.fields.swap_remove(at).1)
    }

    /// Takes a required string.
    pub fn string(&mut self, field: &str) -> Result<String, FieldError> {
        into_string(field, self.take(field)?)
    }

    /// Takes an optional string.
    pub fn optional_string(&mut self, field: &str) -> Result<Option<String>, FieldError> {
        self.take_optional(field).map(|value| into_string(field, value)).transpose()
    }

    /// Takes a required integer. `1.0` and `1e3` are not integers.
    pub fn integer(&mut self, field: &str) -> Result<i64, FieldError> {
        self.take(field)?.as_i64().ok_or_else(|| FieldError::new(field, "an integer"))
    }

    /// Finishes parsing: a field that the caller did not take is an error.
    pub fn finish(self) -> Result<(), FieldError> {
        match self.fields.first() {
            None => Ok(()),
            Some((name, _)) => Err(FieldError {
                field: sanitize_name(name),
                problem: format!("field `{}` is not known", sanitize_name(name)),
            }),
        }
    }
}

/// Returns the items of a list of strings.
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

/// Shortens an unknown field name and removes special characters, so that it is safe to log.
fn sanitize_name(name: &str) -> String {
    name.chars().take(40).map(|c| if c.is_ascii_graphic() && c != '`' { c } else { '?' }).collect()
}

/// Parses exactly one JSON object in which no object, at any depth, has a field twice.
///
/// Parsers of other programs keep the first of two fields, or the last. So a document with both could
/// mean one thing to its author and another thing here.
///
/// # Errors
///
/// [`FieldError`] about the whole document, with the reason.
pub fn parse_unique(bytes: &[u8]) -> Result<Map<String, Value>, FieldError> {
    let mut deserializer = serde_json::Deserializer::from_slice(bytes);
    let object = UniqueVisitor.deserialize(&mut deserializer);
    let object = object.and_then(|value| deserializer.end().map(|()| value));
    match object {
        Ok(Value::Object(fields)) => Ok(fields),
        Ok(_) => Err(FieldError::whole("it must be one JSON object")),
        Err(error) if error.to_string().starts_with(DUPLICATE) => {
            Err(FieldError::whole("one of its fields appears twice"))
        }
        Err(_) => Err(FieldError::whole("it must be one JSON object in UTF-8")),
    }
}

/// Reads any value, and rejects duplicate fields at every depth. `serde_json` limits the depth.
struct UniqueVisitor;

impl<'de> DeserializeSeed<'de> for UniqueVisitor {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for UniqueVisitor {
    type Value = Value;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a JSON value")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut array = Vec::new();
        while let Some(item) = items.next_element_seed(Self)? {
            array.push(item);
        }
        Ok(Value::Array(array))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Value, A::Error> {
        let mut object = Map::new();
        while let Some(name) = fields.next_key::<String>()? {
            let value = fields.next_value_seed(Self)?;
            if object.contains_key(&name) {
                return Err(serde::de::Error::custom(DUPLICATE));
            }
            object.insert(name, value);
        }
        Ok(Value::Object(object))
    }
}

/// Prefix of the error that the visitors return for a duplicate field.
const DUPLICATE: &str = "duplicate field ";

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
                return Err(serde::de::Error::custom(format!(
                    "{DUPLICATE}`{}`",
                    sanitize_name(&name)
                )));
            }
            // The search for duplicates is quadratic, so limit the number of fields.
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
    fn anything_but_one_object_is_rejected() {
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
        assert_eq!(problem(br#"{"a":"b"}{}"#), "there is data after the JSON object");
        assert_eq!(problem(br#"{"a":"b"} x"#), "there is data after the JSON object");
    }

    #[test]
    fn errors_name_duplicate_missing_and_unknown_fields_without_their_values() {
        assert_eq!(problem(br#"{"a":"secret","a":"secret"}"#), "field `a` appears twice");
        assert_eq!(problem(br#"{"a":"x","\u0061":"secret"}"#), "field `a` appears twice");
        assert_eq!(problem(b"{}"), "field `a` is missing");
        assert_eq!(problem(br#"{"a":7}"#), "`a` must be a string");
        assert_eq!(problem(br#"{"a":"x","A":"secret"}"#), "field `A` is not known");
        assert_eq!(problem(b"{\"a\":\"x\",\"\\n`\\u001b[31m\":1}"), "field `???[31m` is not known");
    }

    #[test]
    fn a_field_twice_at_any_depth_makes_a_document_invalid() {
        for document in [
            r#"{"a":1,"a":1}"#,
            r#"{"a":1,"\u0061":2}"#,
            r#"{"x":{"a":1,"a":2}}"#,
            r#"{"x":[[{"a":1,"b":2,"a":3}]]}"#,
        ] {
            let error = parse_unique(document.as_bytes()).unwrap_err();
            assert_eq!(error.problem, "one of its fields appears twice", "{document}");
        }
        for document in ["", "[]", "1", "null", "{", "{}{}", "{} x", "\u{feff}{}", "{\"a\":\"\n\"}"]
        {
            assert!(parse_unique(document.as_bytes()).is_err(), "{document:?}");
        }
        assert!(parse_unique(b"{\"a\":\"\xff\"}").is_err());
        let deep = format!("{{\"a\":{}{}}}", "[".repeat(10_000), "]".repeat(10_000));
        assert!(parse_unique(deep.as_bytes()).is_err());
        let text = r#"{"a":{"a":[1,-1,1.5,"x",true,null,{"a":{}}]},"b":18446744073709551615}"#;
        let expected: Value = serde_json::from_str(text).unwrap();
        assert_eq!(Value::Object(parse_unique(text.as_bytes()).unwrap()), expected);
    }

    #[test]
    fn only_an_integer_is_accepted_as_an_integer() {
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
