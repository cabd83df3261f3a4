//! Collects the lines of `doctor`, one for each step, and prints them at the end.

use crate::terminal;
use crate::verb::VerbFailure;

/// The lines so far, and the number of failed steps.
#[derive(Debug, Default)]
pub(super) struct DoctorReport {
    lines: String,
    failed: usize,
}

impl DoctorReport {
    /// Adds a step whose result is its description. It returns whether the step succeeded.
    pub(super) fn step(&mut self, name: &str, outcome: Result<String, VerbFailure>) -> bool {
        self.step_with(name, outcome, String::clone).is_some()
    }

    /// Adds a step, and returns its result if it succeeded.
    pub(super) fn step_with<T>(
        &mut self,
        name: &str,
        outcome: Result<T, VerbFailure>,
        described: impl FnOnce(&T) -> String,
    ) -> Option<T> {
        match outcome {
            Ok(value) => {
                let described = described(&value);
                self.line("ok", name, &described);
                Some(value)
            }
            Err(failure) => {
                self.failed += 1;
                self.line("FAIL", name, &failure.to_string());
                None
            }
        }
    }

    /// Adds a line that is neither a success nor a failure.
    pub(super) fn note(&mut self, name: &str, text: &str) {
        self.line("-", name, text);
    }

    /// Adds steps that cannot run after an earlier one failed.
    pub(super) fn skip(&mut self, names: &[&str]) {
        for name in names {
            self.note(name, "skipped");
        }
    }

    /// Adds a line below a step.
    pub(super) fn detail(&mut self, text: &str) {
        self.lines.push_str(&format!("     {text}\n"));
    }

    /// Prints all lines. It fails if a step failed.
    pub(super) fn end(&self) -> Result<(), VerbFailure> {
        terminal::print(&self.lines)?;
        match self.failed {
            0 => Ok(()),
            1 => Err(VerbFailure::new("one step failed")),
            failed => Err(VerbFailure::new(format!("{failed} steps failed"))),
        }
    }

    fn line(&mut self, mark: &str, name: &str, text: &str) {
        let colon = if text.is_empty() { "" } else { ": " };
        self.lines.push_str(&format!("{mark:<5}{name}{colon}{text}\n"));
    }
}
