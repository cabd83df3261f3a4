//! Reads the blocks of a file in the JSON syntax.
//!
//! It opens one level of objects at a time and keeps all deeper values as text, so nested values
//! cost neither stack nor memory.

use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use crate::declarations::{
    Context, Declarations, Declared, Header, OF_DEPENDENCY, OF_OUTPUT, OF_VARIABLE, is_expression,
};
use crate::model::Validation;

/// The name of a property that is a comment.
const COMMENT: &str = "//";

/// The properties of an object, in their order. A name can appear several times.
#[derive(Default)]
struct Properties<'a>(Vec<(String, &'a RawValue)>);

impl<'de: 'a, 'a> Deserialize<'de> for Properties<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Object;
        impl<'de> Visitor<'de> for Object {
            type Value = Properties<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut properties = Vec::new();
                while let Some((name, value)) = map.next_entry::<String, &'de RawValue>()? {
                    if name != COMMENT {
                        properties.push((name, value));
                    }
                }
                Ok(Properties(properties))
            }
        }
        deserializer.deserialize_map(Object)
    }
}

/// Reads all blocks of a file.
pub(crate) fn read(text: &str, context: &mut Context<'_>) -> Declarations {
    let mut found = Declarations::default();
    let whole = match serde_json::from_str::<&RawValue>(text) {
        Ok(whole) => whole,
        Err(error) => {
            let line = error.line();
            context.warn(&format!("is not valid JSON in line {line}, and was not read"));
            return found;
        }
    };
    let Some(bodies) = objects(whole) else {
        context.warn("is neither an object nor a list of objects, and was not read");
        return found;
    };
    for (kind, value) in bodies {
        let Some(labels) = Header::labels(&kind) else { continue };
        if !blocks(&kind, labels, &mut Vec::new(), value, &mut found, context) {
            break;
        }
    }
    found
}

/// Returns the properties of an object, or of all objects in a list.
fn objects(value: &RawValue) -> Option<Vec<(String, &RawValue)>> {
    if value.get().starts_with('[') {
        let list: Vec<&RawValue> = serde_json::from_str(value.get()).ok()?;
        let mut all = Vec::new();
        for value in list {
            all.extend(serde_json::from_str::<Properties<'_>>(value.get()).ok()?.0);
        }
        return Some(all);
    }
    serde_json::from_str::<Properties<'_>>(value.get()).ok().map(|properties| properties.0)
}

/// Returns the objects of one or several blocks: an object, or a list of objects.
fn bodies(value: &RawValue) -> Option<Vec<Vec<(String, &RawValue)>>> {
    if value.get().starts_with('[') {
        let list: Vec<&RawValue> = serde_json::from_str(value.get()).ok()?;
        return list
            .into_iter()
            .map(|value| Some(serde_json::from_str::<Properties<'_>>(value.get()).ok()?.0))
            .collect();
    }
    Some(vec![serde_json::from_str::<Properties<'_>>(value.get()).ok()?.0])
}

/// Reads the blocks of one type, below the labels so far. Returns whether others can still be read.
fn blocks(
    kind: &str,
    missing: usize,
    labels: &mut Vec<String>,
    value: &RawValue,
    found: &mut Declarations,
    context: &mut Context<'_>,
) -> bool {
    // It counts as a block, and nothing is copied for a warning that is not kept.
    let wrong = |labels: &[String], context: &mut Context<'_>| {
        let goes_on = context.block();
        if goes_on {
            context.warn_with(|| {
                let path = [&[kind.to_owned()][..], labels].concat().join(".");
                format!("has a value at `{path}` that is no block")
            });
        }
        goes_on
    };
    if let Some(missing) = missing.checked_sub(1) {
        let Some(labelled) = objects(value) else { return wrong(labels, context) };
        for (label, value) in labelled {
            if !context.name(&label) {
                if !context.block() {
                    return false;
                }
                continue;
            }
            labels.push(label);
            let goes_on = blocks(kind, missing, labels, value, found, context);
            labels.pop();
            if !goes_on {
                return false;
            }
        }
        return true;
    }
    let Some(bodies) = bodies(value) else { return wrong(labels, context) };
    for body in bodies {
        if !context.block() {
            return false;
        }
        let labels: Vec<&str> = labels.iter().map(String::as_str).collect();
        let Some(header) = Header::new(kind, &labels) else { return true };
        let declared = match &header {
            Header::Variable(_) => {
                Declared { validations: validations(&body), ..declared(&body, OF_VARIABLE) }
            }
            Header::Output(_) => declared(&body, OF_OUTPUT),
            Header::ModuleCall(_) => declared(&body, OF_DEPENDENCY),
            Header::Resource(..) => Declared::default(),
            Header::Terraform => {
                settings(&body, found, context);
                continue;
            }
        };
        found.insert(header, declared, context);
    }
    true
}

/// Reads a `terraform` block.
fn settings(body: &[(String, &RawValue)], found: &mut Declarations, context: &mut Context<'_>) {
    for (name, value) in body {
        match name.as_str() {
            "required_version" => found.required_versions.push(constant(value)),
            "required_providers" => {
                for (name, value) in objects(value).unwrap_or_default() {
                    if !context.block() {
                        return;
                    }
                    found.insert_provider(name, provider(value), context);
                }
            }
            _ => {}
        }
    }
}

/// Reads an entry of `required_providers`: an object, or only a version.
fn provider(value: &RawValue) -> Declared {
    match objects(value) {
        Some(properties) => declared(&properties, OF_DEPENDENCY),
        None => Declared {
            values: [("version", constant(value))].into_iter().collect(),
            validations: Vec::new(),
        },
    }
}

fn declared(body: &[(String, &RawValue)], names: &[&'static str]) -> Declared {
    let values = names.iter().filter_map(|name| {
        let (_, value) = body.iter().find(|(property, _)| property == name)?;
        let value = if is_expression(name) { value.get().to_owned() } else { constant(value) };
        Some((*name, value))
    });
    Declared { values: values.collect(), validations: Vec::new() }
}

fn validations(body: &[(String, &RawValue)]) -> Vec<Validation> {
    let rules = body.iter().filter(|(name, _)| name == "validation");
    let rules = rules.filter_map(|(_, value)| bodies(value)).flatten();
    let text = |rule: &[(String, &RawValue)], name: &str| {
        rule.iter().find(|(property, _)| property == name).map(|(_, value)| constant(value))
    };
    rules
        .map(|rule| Validation {
            condition: text(&rule, "condition").unwrap_or_default(),
            error_message: text(&rule, "error_message"),
        })
        .collect()
}

/// Returns the content of a string, and the source text of any other value.
fn constant(value: &RawValue) -> String {
    serde_json::from_str::<String>(value.get()).unwrap_or_else(|_| value.get().to_owned())
}
