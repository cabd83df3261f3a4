//! Prints data to stdout, and notices and errors to stderr, as lines or as JSON.
//!
//! The plan of a file of grants has colours on a terminal. Clap prints some in help and usage errors.
//! Both honour `NO_COLOR`.

use std::fmt::{self, Write as _};
use std::io::{self, ErrorKind, IsTerminal as _, Write as _};
use std::sync::OnceLock;

use clap::ValueEnum;
use comfy_table::Table;
use comfy_table::presets::NOTHING;
use serde_json::{Value, json};
use stile_protocol::printable::is_unprintable;
use terraform_credentials_stile::message::{one_line, printable};

use crate::error::{CommandError, split_hint};

/// The format of data on stdout, and of notices and errors on stderr.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum OutputFormat {
    /// Lines and columns, for people
    Table,
    /// JSON, for programs
    Json,
}

/// The form of everything on stderr. `main` sets it once, before the first message.
#[derive(Debug, Clone, Copy)]
struct Messages {
    form: OutputFormat,
    quiet: bool,
}

static MESSAGES: OnceLock<Messages> = OnceLock::new();

impl Messages {
    fn current() -> Self {
        *MESSAGES.get_or_init(|| Self { form: OutputFormat::Table, quiet: false })
    }
}

/// Sets the format of notices and errors, and whether notices are suppressed. Only the first call
/// has an effect.
pub(crate) fn set_messages(form: OutputFormat, quiet: bool) {
    MESSAGES.get_or_init(|| Messages { form, quiet });
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
            OutputFormat::Json => pretty(json),
        })
    }

    /// Prints one line of several, for people. Programs get all of them from [`Self::json`].
    pub(crate) fn line(self, line: impl fmt::Display) -> Result<(), CommandError> {
        match self.form {
            OutputFormat::Table => print(&format!("{line}\n")),
            OutputFormat::Json => Ok(()),
        }
    }

    /// Prints one of several results whose number nobody knows yet: as a line of columns, or as a JSON
    /// object in one line.
    pub(crate) fn each(self, row: &[String], json: &Value) -> Result<(), CommandError> {
        match self.form {
            OutputFormat::Table => {
                let cells: Vec<_> = row.iter().map(|cell| one_line(cell)).collect();
                print(&format!("{}\n", cells.join("  ")))
            }
            OutputFormat::Json => print(&escaped(&format!("{json}\n"))),
        }
    }

    /// Prints a line that is JSON in every format.
    pub(crate) fn raw_line(self, json: &str) -> Result<(), CommandError> {
        print(&escaped(&format!("{json}\n")))
    }

    /// Returns whether the output is JSON.
    pub(crate) fn is_json(self) -> bool {
        self.form == OutputFormat::Json
    }

    /// Returns whether lines for people have colours: on a terminal, unless the user wants none.
    pub(crate) fn has_colours(self, unwanted: bool) -> bool {
        !unwanted && !self.is_json() && io::stdout().is_terminal()
    }

    /// Prints JSON, for programs. People have got its lines from [`Self::line`].
    pub(crate) fn json(self, json: &Value) -> Result<(), CommandError> {
        match self.form {
            OutputFormat::Table => Ok(()),
            OutputFormat::Json => print(&pretty(json)),
        }
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
            OutputFormat::Json => print(&pretty(json)),
            OutputFormat::Table if rows.is_empty() => {
                notice(format_args!("there are no {what}"));
                Ok(())
            }
            OutputFormat::Table => print(&table(header, rows)),
        }
    }
}

/// Returns whether the user wants no notices and no progress.
pub(crate) fn is_quiet() -> bool {
    Messages::current().quiet
}

/// Prints a notice to stderr, unless the user asked for none. As JSON, it is one line.
pub(crate) fn notice(text: impl fmt::Display) {
    let Messages { form, quiet } = Messages::current();
    if quiet {
        return;
    }
    let _written = match form {
        OutputFormat::Table => {
            writeln!(io::stderr(), "notice: {}", printable(&text.to_string()))
        }
        OutputFormat::Json => writeln!(io::stderr(), "{}", notice_json(&text.to_string())),
    };
}

/// Prints an error to stderr. As JSON, it is one line.
pub(crate) fn print_error(error: &CommandError) {
    let _written = match Messages::current().form {
        OutputFormat::Table => {
            writeln!(io::stderr(), "error: {}", printable(&error.to_string()))
        }
        OutputFormat::Json => writeln!(io::stderr(), "{}", error.json()),
    };
}

fn notice_json(text: &str) -> Value {
    let (text, hint) = split_hint(text);
    json!({ "notice": text, "hint": hint })
}

/// Formats JSON for a terminal or a program. It escapes what could change the display of a terminal,
/// which JSON otherwise allows in texts.
fn pretty(json: &Value) -> String {
    escaped(&format!("{json:#}\n"))
}

fn escaped(json: &str) -> String {
    let mut text = String::new();
    for character in json.chars() {
        if character != '\n' && is_unprintable(character) {
            let _infallible = write!(text, "\\u{:04x}", u32::from(character));
        } else {
            text.push(character);
        }
    }
    text
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
    fn a_notice_as_json_has_its_hint_apart() {
        assert_eq!(notice_json("a"), json!({ "notice": "a", "hint": null }));
        assert_eq!(notice_json("a; hint: b"), json!({ "notice": "a", "hint": "b" }));
    }

    #[test]
    fn json_escapes_what_a_terminal_would_obey_and_keeps_its_meaning() {
        let json = json!({ "a\u{9b}": ["é\u{202e}\u{61c}\u{1b}\n\u{7f}"] });
        let text = pretty(&json);
        assert_eq!(text.lines().nth(2), Some(r#"    "é\u202e\u061c\u001b\n\u007f""#));
        assert!(!text.trim_end().contains(|c| c != '\n' && is_unprintable(c)), "{text:?}");
        assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), json);
    }

    #[test]
    fn a_table_cell_has_no_control_characters() {
        let rows = [
            vec!["a".to_owned(), "b\u{1b}[2J\nc".to_owned()],
            vec!["long".to_owned(), "d".to_owned()],
        ];
        assert_eq!(table(&["one", "two"], &rows), "one   two\na     b [2J c\nlong  d\n");
    }
}
