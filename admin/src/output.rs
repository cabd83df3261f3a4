//! Prints data to stdout, as a table or as JSON, and notices and errors to stderr.
//!
//! The output has no colours, so `NO_COLOR` has no effect.

use std::fmt;
use std::io::{self, ErrorKind, Write as _};

use clap::ValueEnum;
use comfy_table::Table;
use comfy_table::presets::NOTHING;
use serde_json::Value;
use terraform_credentials_stile::message::one_line;

use crate::error::CommandError;

/// The format of data on stdout.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum OutputFormat {
    /// Lines and columns, for people
    Table,
    /// JSON, for programs
    Json,
}

/// Standard output in the requested format.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Output {
    form: OutputFormat,
}

impl Output {
    /// Creates an output with this format.
    pub(crate) const fn new(form: OutputFormat) -> Self {
        Self { form }
    }

    /// Prints one result: as lines, or as a JSON object.
    pub(crate) fn outcome(
        self,
        lines: impl fmt::Display,
        json: &Value,
    ) -> Result<(), CommandError> {
        print(&match self.form {
            OutputFormat::Table => format!("{lines}\n"),
            OutputFormat::Json => format!("{json:#}\n"),
        })
    }

    /// Prints rows with a header, or as JSON. For an empty table, it prints a notice to stderr.
    pub(crate) fn rows(
        self,
        what: &str,
        header: &[&str],
        rows: &[Vec<String>],
        json: &Value,
    ) -> Result<(), CommandError> {
        match self.form {
            OutputFormat::Json => print(&format!("{json:#}\n")),
            OutputFormat::Table if rows.is_empty() => {
                notice(format_args!("there are no {what}"));
                Ok(())
            }
            OutputFormat::Table => print(&table(header, rows)),
        }
    }
}

/// Prints a notice to stderr.
pub(crate) fn notice(text: impl fmt::Display) {
    let _written = writeln!(io::stderr(), "notice: {text}");
}

/// Prints an error to stderr.
pub(crate) fn print_error(error: &CommandError) {
    let _written = writeln!(io::stderr(), "error: {error}");
}

/// Formats a table. It removes control characters from every cell (terminal escape injection).
fn table(header: &[&str], rows: &[Vec<String>]) -> String {
    let mut table = Table::new();
    table.load_style(NOTHING);
    table.set_header(header.to_vec());
    for row in rows {
        table.add_row(row.iter().map(|cell| one_line(cell)).collect::<Vec<_>>());
    }
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    format!("{}\n", table.trim_fmt())
}

/// Writes a text to stdout. It ignores a closed pipe, for example of `head`.
fn print(text: &str) -> Result<(), CommandError> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            Err(CommandError::failed_because("cannot write to standard output", &error))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_cell_has_no_control_characters() {
        let rows = [
            vec!["a".to_owned(), "b\u{1b}[2J\nc".to_owned()],
            vec!["long".to_owned(), "d".to_owned()],
        ];
        assert_eq!(table(&["one", "two"], &rows), "one   two\na     b [2J c\nlong  d\n");
    }
}
