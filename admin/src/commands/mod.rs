//! The commands, one file for each.

mod explain;
pub(crate) mod grant;
mod grant_create;
mod grant_text;
mod known_names;
pub(crate) mod module;
pub(crate) mod namespace;
pub(crate) mod store;
pub(crate) mod token;

use std::process::ExitCode;

use stile_core::audit::{Event, Kind, Outcome};
use stile_core::grants::OperatorAccess;
use stile_core::principal::{Principal, parse_typed};
use stile_protocol::reply::ErrorCode;
use stile_store::StoreError;

use crate::error::CommandError;
use crate::output::{Output, notice};

/// The context of every command.
#[derive(Debug)]
pub(crate) struct Context {
    /// The output for data.
    pub(crate) output: Output,
    /// The name of the local user, for records.
    pub(crate) user: String,
    /// The current time in Unix seconds.
    pub(crate) now: i64,
}

impl Context {
    /// Returns the operator's right. IAM or the file system decides who can open the store.
    pub(crate) fn operator(&self) -> OperatorAccess {
        OperatorAccess::for_store_writer(&self.user)
    }

    /// Creates the audit event of a change by this operator.
    fn event(&self, kind: Kind) -> Event {
        let mut event = Event::new(kind);
        event.operator(&self.operator());
        event
    }
}

/// Writes the audit event of a change with its outcome.
///
/// If the store failed, nobody knows whether it made the change, so the outcome is a failure.
fn record<T>(
    mut event: Event,
    done: Result<T, StoreError>,
    outcome: impl FnOnce(&T) -> Outcome,
) -> Result<T, StoreError> {
    match &done {
        Ok(done) => event.outcome(outcome(done)),
        Err(_) => event.refused(ErrorCode::StoreUnavailable),
    }
    event.write();
    done
}

/// The result of a command: an exit code, or an error.
pub(crate) type CommandResult = Result<ExitCode, CommandError>;

/// Parses the principal of an existing object, and prints a notice for each ignored part.
fn existing_principal(text: &str, exact: bool) -> Result<Principal, CommandError> {
    let typed = parse_typed(text, exact)?;
    // The notice about a whole account is only relevant for new grants.
    if !typed.needs_confirmation {
        typed.notices.iter().for_each(notice);
    }
    Ok(typed.principal)
}
