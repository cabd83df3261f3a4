//! The passphrase of a private key: from a file, from a variable, or typed without an echo.

use std::io::{self, IsTerminal as _};
use std::path::PathBuf;

use console::Term;
use pgp::types::Password;

use super::folder::read_small;
use crate::error::CommandError;

/// The longest passphrase in bytes. A longer text is not a passphrase, such as a wrong file.
const LONGEST: usize = 4096;

/// Where the passphrase of a private key comes from. Its `Debug` has no passphrase.
pub(crate) struct PassphraseSource {
    /// A file with the passphrase in its first line.
    file: Option<PathBuf>,
    /// The value of the variable.
    variable: Option<String>,
}

impl std::fmt::Debug for PassphraseSource {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("PassphraseSource").field("file", &self.file).finish_non_exhaustive()
    }
}

impl PassphraseSource {
    /// Names a file and the value of a variable. The file comes first.
    pub(crate) const fn new(file: Option<PathBuf>, variable: Option<String>) -> Self {
        Self { file, variable }
    }

    /// Reads the passphrase of this key. It asks only on a terminal.
    ///
    /// # Errors
    ///
    /// [`CommandError`], which never has the passphrase.
    pub(super) fn read(&self, key: &str) -> Result<Password, CommandError> {
        if let Some(file) = &self.file {
            let bytes = read_small(file, LONGEST)?;
            let line = bytes.split(|byte| *byte == b'\n').next().unwrap_or_default();
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            return Ok(Password::from(line));
        }
        if let Some(text) = &self.variable {
            return Ok(Password::from(text.as_str()));
        }
        let terminal = Term::stderr();
        if !io::stdin().is_terminal() || !terminal.is_term() {
            return Err(CommandError::usage(format!(
                "`{key}` has a passphrase, and none was given"
            ))
            .hint("use `--passphrase-file`, or set `STILE_KEY_PASSPHRASE`"));
        }
        let failed = |error: io::Error| {
            CommandError::failed_because("cannot read a passphrase from the terminal", &error)
        };
        terminal.write_str(&format!("Passphrase of `{key}`: ")).map_err(failed)?;
        let typed = terminal.read_secure_line().map_err(failed)?;
        Ok(Password::from(typed))
    }
}
