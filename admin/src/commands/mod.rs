//! What the commands do, one file a noun.

mod explain;
pub(crate) mod grant;
pub(crate) mod module;
pub(crate) mod store;
pub(crate) mod token;

use std::process::ExitCode;

use stile_core::grants::OperatorAccess;
use stile_core::principal::{Principal, parse_typed};

use crate::error::CommandError;
use crate::output::{Output, notice};

/// What every command is given.
#[derive(Debug)]
pub(crate) struct Context {
    /// Where data goes.
    pub(crate) output: Output,
    /// Who runs it, for the record.
    pub(crate) user: String,
    /// Unix seconds.
    pub(crate) now: i64,
}

impl Context {
    /// The right of whoever has the store open, which AWS or the file system gave.
    pub(crate) fn operator(&self) -> OperatorAccess {
        OperatorAccess::for_store_writer(&self.user)
    }
}

/// What a command ends with: an exit code where it gave an answer, and else why not.
pub(crate) type CommandResult = Result<ExitCode, CommandError>;

/// The principal that was typed for something that is there already, with what was left out of it said.
fn existing_principal(text: &str, exact: bool) -> Result<Principal, CommandError> {
    let typed = parse_typed(text, exact)?;
    // That an account is large matters to whoever grants it something, and to nobody else.
    if !typed.needs_confirmation {
        typed.notices.iter().for_each(notice);
    }
    Ok(typed.principal)
}
