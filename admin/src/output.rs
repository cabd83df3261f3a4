//! Where words go: what was asked for to stdout, as a table or as JSON, and everything else to stderr.
//!
//! Nothing here is in colour, so there is nothing for `NO_COLOR` to switch off.

use std::fmt;
use std::io::{self, ErrorKind, Write as _};

use clap::ValueEnum;
use comfy_table::Table;
use comfy_table::presets::NOTHING;
use serde_json::Value;
use terraform_credentials_stile::message::one_line;

use crate::error::CommandError;

/// How data is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum OutputFormat {
    /// Lines and columns, for people
    Table,
    /// JSON, for programs
    Json,
}

/// Standard output, in the form that was asked for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Output {
    form: OutputFormat,
}

impl Output {
    /// Output in that form.
    pub(crate) const fn new(form: OutputFormat) -> Self {
        Self { form }
    }

    /// Prints one outcome: a line, or an object.
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

    /// Prints rows under their headings, or the same as JSON; that there are none is said on stderr.
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

/// Says something beside the data.
pub(crate) fn notice(text: impl fmt::Display) {
    let _written = writeln!(io::stderr(), "notice: {text}");
}

/// Says why there is no data.
pub(crate) fn print_error(error: &CommandError) {
    let _written = writeln!(io::stderr(), "error: {error}");
}

/// Columns two spaces apart; what a terminal would obey is taken out of every cell.
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

/// Writes it whole; whoever reads only the beginning has what they args.
fn print(text: &str) -> Result<(), CommandError> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            Err(CommandError::failed_because("standard output cannot be written", &error))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cell_is_one_line_that_no_terminal_obeys() {
        let rows = [
            vec!["a".to_owned(), "b\u{1b}[2J\nc".to_owned()],
            vec!["long".to_owned(), "d".to_owned()],
        ];
        assert_eq!(table(&["one", "two"], &rows), "one   two\na     b [2J c\nlong  d\n");
    }
}
