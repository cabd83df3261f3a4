//! The values of a file with their places, the same for TOML and JSON.

/// The deepest value of a file of grants: the file, its list of grants, a grant, its list of
/// permissions, and a permission.
pub(super) const DEPTH: usize = 5;

/// A value, and its place in the file as an index of bytes.
#[derive(Debug, Clone)]
pub(super) struct At<T> {
    pub(super) value: T,
    pub(super) at: usize,
}

/// A value of a file.
#[derive(Debug, Clone)]
pub(super) enum Node {
    Null,
    Bool,
    Text(String),
    /// A number, as it is written.
    Number(String),
    /// A date or a time of TOML, in the form of RFC 3339.
    Time(String),
    List(Vec<At<Node>>),
    /// The members in the order of the file. A name can be there twice.
    Table(Vec<(At<String>, At<Node>)>),
    /// A value that is deeper than any that the format has.
    TooDeep,
}

impl Node {
    /// Returns the kind of the value, for messages.
    pub(super) const fn kind(&self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Bool => "true or false",
            Self::Text(_) => "a text",
            Self::Number(_) => "a number",
            Self::Time(_) => "a date",
            Self::List(_) => "a list",
            Self::Table(_) => "a table",
            Self::TooDeep => "a nested value",
        }
    }
}

/// A problem of a file, and its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Problem {
    pub(super) at: usize,
    pub(super) text: String,
    pub(super) hint: Option<String>,
}

impl Problem {
    pub(super) fn new(at: usize, text: impl Into<String>) -> Self {
        Self { at, text: text.into(), hint: None }
    }

    #[must_use]
    pub(super) fn hint(self, hint: impl Into<String>) -> Self {
        Self { hint: Some(hint.into()), ..self }
    }
}

/// The places of a text as lines and columns, both from 1 on. Columns count characters.
#[derive(Debug)]
pub(super) struct Places<'a> {
    text: &'a str,
    /// The index of the first byte of each line.
    starts: Vec<usize>,
}

impl<'a> Places<'a> {
    pub(super) fn of(text: &'a str) -> Self {
        let after = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n');
        Self { text, starts: [0].into_iter().chain(after.map(|(at, _)| at + 1)).collect() }
    }

    pub(super) fn line(&self, at: usize) -> usize {
        self.starts.partition_point(|start| *start <= at)
    }

    pub(super) fn line_and_column(&self, at: usize) -> (usize, usize) {
        let line = self.line(at);
        let start = self.starts.get(line.saturating_sub(1)).copied().unwrap_or_default();
        let before = self.text.get(start..at).or_else(|| self.text.get(start..));
        (line, before.unwrap_or_default().chars().count() + 1)
    }
}
