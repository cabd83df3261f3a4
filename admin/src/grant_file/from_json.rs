//! Reads the values of a JSON file with their places.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::node::{At, DEPTH, Node, Problem};

/// Returns the values, or the place where the text is not JSON.
pub(super) fn read(text: &str) -> Result<At<Node>, Vec<Problem>> {
    let raw: &RawValue =
        serde_json::from_str(text).map_err(|error| vec![problem(text, 0, &error)])?;
    node(text, raw, DEPTH).map_err(|problem| vec![problem])
}

fn node(whole: &str, raw: &RawValue, depth: usize) -> Result<At<Node>, Problem> {
    let (text, at) = (raw.get(), place(whole, raw));
    let wrong = |error: serde_json::Error| problem(whole, at, &error);
    let value = match text.bytes().next() {
        Some(b'{' | b'[') if depth == 0 => Node::TooDeep,
        Some(b'{') => {
            let Members(members) = serde_json::from_str(text).map_err(wrong)?;
            let members = members.into_iter().map(|(name, value)| {
                let at = place(whole, name);
                let name =
                    serde_json::from_str(name.get()).map_err(|error| problem(whole, at, &error))?;
                Ok((At { value: name, at }, node(whole, value, depth - 1)?))
            });
            Node::Table(members.collect::<Result<_, _>>()?)
        }
        Some(b'[') => {
            let values: Vec<&RawValue> = serde_json::from_str(text).map_err(wrong)?;
            let values = values.into_iter().map(|value| node(whole, value, depth - 1));
            Node::List(values.collect::<Result<_, _>>()?)
        }
        Some(b'"') => Node::Text(serde_json::from_str(text).map_err(wrong)?),
        Some(b't' | b'f') => Node::Bool,
        Some(b'n') => Node::Null,
        _ => Node::Number(text.to_owned()),
    };
    Ok(At { value, at })
}

/// Returns the place of a value that borrows from the text.
fn place(whole: &str, raw: &RawValue) -> usize {
    raw.get().as_ptr().addr().saturating_sub(whole.as_ptr().addr())
}

/// Returns a problem at the place that an error names. `start` is the place of the parsed text.
fn problem(whole: &str, start: usize, error: &serde_json::Error) -> Problem {
    let text = whole.get(start..).unwrap_or_default();
    let mut lines = text.split_inclusive('\n');
    let before: usize = lines.by_ref().take(error.line().saturating_sub(1)).map(str::len).sum();
    let column = error.column().saturating_sub(1);
    let at = start.saturating_add(before).saturating_add(column).min(whole.len());
    let message = error.to_string();
    let message = message.rsplit_once(" at line ").map_or(message.as_str(), |(text, _)| text);
    Problem::new((0..=at).rfind(|at| whole.is_char_boundary(*at)).unwrap_or(0), message)
}

/// The members of an object in their order, also those with the same name.
struct Members<'a>(Vec<(&'a RawValue, &'a RawValue)>);

impl<'de> Deserialize<'de> for Members<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct MembersVisitor;

        impl<'de> Visitor<'de> for MembersVisitor {
            type Value = Members<'de>;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Members(members))
            }
        }

        deserializer.deserialize_map(MembersVisitor)
    }
}
