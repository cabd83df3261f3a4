//! Prints the demo: a numbered line for each step, then the commands and their output.

use std::io::Write as _;
use std::path::Path;

use crate::process::home::{CommandOutput, Home};
use crate::process::programs::workspace;

/// A step that did not hold, with the reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failed(String);

impl Failed {
    /// Creates a failure with this message.
    pub fn new(what: impl Into<String>) -> Self {
        Self(what.into())
    }
}

impl std::fmt::Display for Failed {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl std::error::Error for Failed {}

/// How a command must end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// With exit code 0.
    Done,
    /// With exit code 1, and these words on standard error.
    Refused(&'static str),
}

/// A command and its folder. The demo shows it as `who$ program arguments`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Typed<'a> {
    pub(super) who: &'a str,
    pub(super) program: &'a Path,
    pub(super) arguments: &'a [&'a str],
    pub(super) folder: &'a Path,
}

/// The output of the demo so far.
#[derive(Debug, Default)]
pub(super) struct Show {
    steps: usize,
}

impl Show {
    /// Starts a step, and prints its number and title.
    pub(super) fn step(&mut self, what: &str) {
        self.steps += 1;
        say(&format!("\n{:>2}  {what}\n", self.steps));
    }

    /// Prints text under a step.
    pub(super) fn note(&self, text: &str) {
        say(&indented(text));
    }

    /// Runs a command, and shows it with its output. It shortens tokens.
    pub(super) async fn run(
        &self,
        home: &Home,
        typed: Typed<'_>,
        end: End,
    ) -> Result<CommandOutput, Failed> {
        let name = typed.program.file_name().unwrap_or_default().display();
        self.note(&format!("{}$ {name} {}", typed.who, typed.arguments.join(" ")));
        let mut command = home.command(typed.program, typed.arguments);
        command.current_dir(typed.folder);
        let ran = CommandOutput::of(command).await;
        let printed = without_tokens(&format!("{}{}", ran.stdout, ran.stderr));
        self.note(&printed);
        let holds = match end {
            End::Done => ran.code == Some(0),
            End::Refused(words) => ran.code == Some(1) && ran.words().contains(words),
        };
        let ended =
            ran.code.map_or_else(|| "a signal".to_owned(), |code| format!("exit code {code}"));
        let expected = match end {
            End::Done => "exit code 0".to_owned(),
            End::Refused(words) => format!("exit code 1 and the words `{words}`"),
        };
        if holds {
            Ok(ran)
        } else {
            Err(Failed(format!(
                "step {}: `{name}` ended with {ended} instead of {expected}",
                self.steps
            )))
        }
    }
}

/// Writes to stdout without buffering, because a person reads along.
pub(super) fn say(text: &str) {
    let mut stdout = std::io::stdout().lock();
    // A closed pipe must not fail the demo.
    let _ = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush());
}

/// Returns the path relative to the folder of the workspace.
pub(super) fn short(path: &Path) -> String {
    path.strip_prefix(workspace()).unwrap_or(path).display().to_string()
}

fn indented(text: &str) -> String {
    let lines = text.trim_matches('\n').lines().map(|line| format!("      {line}"));
    lines
        .filter(|line| !line.trim().is_empty())
        .map(|line| format!("{}\n", line.trim_end()))
        .collect()
}

/// Shortens tokens, because a token on a screen can end up in a recording.
fn without_tokens(text: &str) -> String {
    let mut parts = text.split("stile_v4.local.");
    let mut shown = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let rest = part.trim_start_matches(|c: char| {
            c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.')
        });
        shown.push_str("stile_v4.local.…");
        shown.push_str(rest);
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_shortened() {
        for (text, expected) in [
            ("{\"token\":\"stile_v4.local.abc-_.def\"}\n", "{\"token\":\"stile_v4.local.…\"}\n"),
            ("stile_v4.local.a stile_v4.local.b", "stile_v4.local.… stile_v4.local.…"),
            ("nothing", "nothing"),
        ] {
            assert_eq!(without_tokens(text), expected);
        }
    }

    #[test]
    fn output_is_indented_under_its_step() {
        assert_eq!(indented("\none\n\n  two \n"), "      one\n        two\n");
    }
}
