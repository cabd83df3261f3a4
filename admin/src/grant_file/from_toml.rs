//! Reads the values of a TOML file with their places.

use terraform_credentials_stile::message::one_line;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::node::{At, DEPTH, Node, Problem};

/// Returns the values, or every place where the text is not TOML.
pub(super) fn read(text: &str) -> Result<At<Node>, Vec<Problem>> {
    let (table, errors) = DeTable::parse_recoverable(text);
    if errors.is_empty() {
        return Ok(At { value: table_node(table.get_ref(), DEPTH), at: 0 });
    }
    let problem = |error: &toml::de::Error| {
        Problem::new(error.span().map_or(0, |span| span.start), one_line(error.message()))
    };
    Err(errors.iter().map(problem).collect())
}

fn table_node(table: &DeTable<'_>, depth: usize) -> Node {
    if depth == 0 {
        return Node::TooDeep;
    }
    let members = table.iter().map(|(name, value)| {
        let name = At { value: name.get_ref().to_string(), at: name.span().start };
        (name, node(value, depth - 1))
    });
    Node::Table(members.collect())
}

fn node(value: &Spanned<DeValue<'_>>, depth: usize) -> At<Node> {
    let node = match value.get_ref() {
        DeValue::String(text) => Node::Text(text.to_string()),
        DeValue::Integer(number) => Node::Number(number.to_string()),
        DeValue::Float(number) => Node::Number(number.to_string()),
        DeValue::Boolean(_) => Node::Bool,
        DeValue::Datetime(time) => Node::Time(time.to_string()),
        DeValue::Array(_) if depth == 0 => Node::TooDeep,
        DeValue::Array(values) => {
            Node::List(values.iter().map(|value| node(value, depth - 1)).collect())
        }
        DeValue::Table(table) => table_node(table, depth),
    };
    At { value: node, at: value.span().start }
}
