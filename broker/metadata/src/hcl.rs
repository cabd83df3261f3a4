//! Reads the blocks of a file in HCL.

use std::ops::Range;

use hcl_edit::Span as _;
use hcl_edit::expr::{Expression, ObjectKey};
use hcl_edit::parser::Error;
use hcl_edit::structure::{Block, Body};
use hcl_edit::template::Element;

use crate::cost::{self, Refusal};
use crate::declarations::{
    Context, Declarations, Declared, Header, OF_DEPENDENCY, OF_OUTPUT, OF_VARIABLE, is_expression,
};
use crate::model::Validation;

/// Maximum number of invalid blocks of a file after which the reading goes on.
const MAX_BROKEN: usize = 4;

/// Maximum number of blocks before an error that are tried as the broken one.
const MAX_STARTS: usize = 4;

/// Reads all blocks of a file. After a block that is not valid it goes on with the next one.
pub(crate) fn read(text: &str, context: &mut Context<'_>) -> Declarations {
    let mut found = Declarations::default();
    let (mut rest, mut lines) = (text, 0);
    for _ in 0..=MAX_BROKEN {
        let error = match parse(rest) {
            Ok(body) => {
                blocks(&body, rest, &mut found, context);
                return found;
            }
            Err(NotParsed::Refused(Refusal { reason, line })) => {
                let line = lines + line;
                let what = if lines == 0 { "and was not read" } else { "so its end was not read" };
                context.warn(&format!("{reason} in line {line}, {what}"));
                return found;
            }
            Err(NotParsed::Invalid(error)) => error,
        };
        let line = lines + error.location().line();
        context.warn(&format!("has an error in line {line}: {}", error.message()));
        let broken = broken_block(rest, error.location().offset(), context);
        if let Some((before, body)) = broken.before {
            blocks(&body, before, &mut found, context);
        }
        if context.deadline.has_passed() {
            break;
        }
        lines += rest[..broken.end].matches('\n').count();
        rest = &rest[broken.end..];
    }
    context.warn("has more errors, so its last part was not read");
    found
}

/// The reason why a text was not parsed.
enum NotParsed {
    /// It could take too long.
    Refused(Refusal),
    /// It is not valid.
    Invalid(Error),
}

/// Parses a text, unless that could take too long.
///
/// Nothing else calls the parser. A part of a text can mean something else than in the whole text,
/// so the cost of each one is estimated again.
fn parse(text: &str) -> Result<Body, NotParsed> {
    match cost::refusal(text) {
        Some(refusal) => Err(NotParsed::Refused(refusal)),
        None => text.parse().map_err(NotParsed::Invalid),
    }
}

/// The part of a text that the parser does not accept.
struct Broken<'a> {
    /// The text before it, and what that declares.
    before: Option<(&'a str, Body)>,
    /// Where the text after it begins.
    end: usize,
}

/// Finds the block with an error. It begins and ends in lines that are not indented.
fn broken_block<'a>(text: &'a str, error: usize, context: &Context<'_>) -> Broken<'a> {
    let error = text.floor_char_boundary(error);
    let line = text[..error].rfind('\n').map_or(0, |at| at + 1);
    // The line of the error itself can be the last one of the block.
    let from = line.saturating_sub(1);
    let end = text[from..].find("\n}").map_or(text.len(), |at| {
        let brace = from + at + 2;
        text[brace..].find('\n').map_or(text.len(), |at| brace + at + 1)
    });
    let earlier = text[..line].rmatch_indices('\n').map(|(at, _)| at + 1);
    let is_start = |at: &usize| text[*at..].starts_with(|c: char| c.is_ascii_alphabetic());
    let starts = std::iter::once(line).chain(earlier.filter(is_start));
    let before = starts.take(MAX_STARTS).find_map(|start| {
        let before = &text[..start];
        let body = (!context.deadline.has_passed()).then(|| parse(before).ok())??;
        Some((before, body))
    });
    Broken { before, end }
}

fn blocks(body: &Body, text: &str, found: &mut Declarations, context: &mut Context<'_>) {
    for block in body.blocks() {
        let kind = block.ident.as_str();
        let Some(expected) = Header::labels(kind) else { continue };
        if !context.block() {
            return;
        }
        let labels: Vec<_> = block.labels.iter().map(|label| label.as_str()).collect();
        if !labels.iter().all(|label| context.name(label)) {
            continue;
        }
        let Some(header) = Header::new(kind, &labels) else {
            let count = labels.len();
            context.warn_with(|| {
                format!("has a block `{kind}` with {count} labels in place of {expected}")
            });
            continue;
        };
        let declared = match &header {
            Header::Variable(_) => Declared {
                validations: validations(block, text),
                ..declared(&block.body, text, OF_VARIABLE)
            },
            Header::Output(_) => declared(&block.body, text, OF_OUTPUT),
            Header::ModuleCall(_) => declared(&block.body, text, OF_DEPENDENCY),
            Header::Resource(..) => Declared::default(),
            Header::Terraform => {
                settings(&block.body, text, found, context);
                continue;
            }
        };
        found.insert(header, declared, context);
    }
}

/// Reads a `terraform` block.
fn settings(body: &Body, text: &str, found: &mut Declarations, context: &mut Context<'_>) {
    found
        .required_versions
        .extend(body.get_attribute("required_version").map(|it| constant(&it.value, text)));
    for providers in body.get_blocks("required_providers") {
        for attribute in providers.body.attributes() {
            if !context.block() {
                return;
            }
            let provider = provider(&attribute.value, text);
            found.insert_provider(attribute.key.as_str().to_owned(), provider, context);
        }
    }
}

/// Reads an entry of `required_providers`: an object, or only a version.
fn provider(value: &Expression, text: &str) -> Declared {
    let mut declared = Declared::default();
    let Some(object) = value.as_object() else {
        declared.values.insert("version", constant(value, text));
        return declared;
    };
    for (key, value) in object {
        let key = match key {
            ObjectKey::Ident(name) => name.as_str(),
            ObjectKey::Expression(name) => name.as_str().unwrap_or_default(),
        };
        if let Some(name) = OF_DEPENDENCY.iter().copied().find(|name| *name == key) {
            declared.values.insert(name, constant(value.expr(), text));
        }
    }
    declared
}

fn declared(body: &Body, text: &str, names: &[&'static str]) -> Declared {
    let values = names.iter().filter_map(|name| {
        let value = &body.get_attribute(name)?.value;
        let value = if is_expression(name) { written(value, text) } else { constant(value, text) };
        Some((*name, value))
    });
    Declared { values: values.collect(), validations: Vec::new() }
}

fn validations(block: &Block, text: &str) -> Vec<Validation> {
    let rules = block.body.get_blocks("validation").map(|rule| Validation {
        condition: rule
            .body
            .get_attribute("condition")
            .map_or_else(String::new, |it| written(&it.value, text)),
        error_message: rule.body.get_attribute("error_message").map(|it| constant(&it.value, text)),
    });
    rules.collect()
}

/// Returns the value of a constant, and the source text of any other expression.
fn constant(value: &Expression, text: &str) -> String {
    match value {
        Expression::String(value) => value.as_str().to_owned(),
        Expression::HeredocTemplate(heredoc) => {
            let literals = heredoc.template.iter().map(|element| match element {
                Element::Literal(literal) => Some(literal.as_str()),
                _ => None,
            });
            literals.collect::<Option<String>>().unwrap_or_else(|| written(value, text))
        }
        _ => written(value, text),
    }
}

/// Returns the source text of an expression.
fn written(value: &Expression, text: &str) -> String {
    let source = value.span().and_then(|Range { start, end }| text.get(start..end));
    source.map_or_else(|| value.to_string().trim().to_owned(), |source| source.trim().to_owned())
}
