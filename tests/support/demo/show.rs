//! How the demo speaks: a numbered line for each step, and under it what was typed and what came back.

use std::io::Write as _;
use std::path::Path;

use crate::process::home::{CommandOutput, Home};
use crate::process::programs::workspace;

/// A step did not hold, and what was seen of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failed(String);

impl Failed {
    /// A failure told by a sentence.
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

/// How a command is to end for its step to hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// With exit code 0.
    Done,
    /// With exit code 1, and these words.
    Refused(&'static str),
}

/// Who types a command, what, and where; shown as `who$ program arguments`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Typed<'a> {
    pub(super) who: &'a str,
    pub(super) program: &'a Path,
    pub(super) arguments: &'a [&'a str],
    pub(super) folder: &'a Path,
}

/// What has been shown so far.
#[derive(Debug, Default)]
pub(super) struct Show {
    steps: usize,
}

impl Show {
    /// Begins a step: what it shows, and why.
    pub(super) fn step(&mut self, what: &str) {
        self.steps += 1;
        say(&format!("\n{:>2}  {what}\n", self.steps));
    }

    /// Says something under a step.
    pub(super) fn note(&self, text: &str) {
        say(&indented(text));
    }

    /// Runs a command and shows it with all that it prints, but for a token.
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
                "step {}: `{name}` ended with {ended}, and not with {expected}",
                self.steps
            )))
        }
    }
}

/// Writes to stdout at once: somebody watches.
pub(super) fn say(text: &str) {
    let mut stdout = std::io::stdout().lock();
    // Who stops reading has seen enough.
    let _ = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush());
}

/// A path as it is typed in the folder of the workspace.
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

/// A token on a screen is a token in a recording, so only its beginning is shown.
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
    fn a_token_is_not_shown() {
        for (text, expected) in [
            ("{\"token\":\"stile_v4.local.abc-_.def\"}\n", "{\"token\":\"stile_v4.local.…\"}\n"),
            ("stile_v4.local.a stile_v4.local.b", "stile_v4.local.… stile_v4.local.…"),
            ("nothing", "nothing"),
        ] {
            assert_eq!(without_tokens(text), expected);
        }
    }

    #[test]
    fn what_is_printed_stands_under_its_step() {
        assert_eq!(indented("\none\n\n  two \n"), "      one\n        two\n");
    }
}
