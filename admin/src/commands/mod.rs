//! The commands, one file for each.

pub(crate) mod audit;
mod audit_chain;
mod audit_event;
mod audit_verify;
pub(crate) mod backup;
pub(crate) mod config_show;
mod explain;
pub(crate) mod export;
pub(crate) mod grant;
mod grant_api_backend;
mod grant_apply;
mod grant_backend;
mod grant_client;
mod grant_create;
mod grant_export;
mod grant_plan;
mod grant_remote;
mod grant_text;
mod grant_wanted;
mod known_names;
mod life;
pub(crate) mod module;
mod module_all;
mod module_block;
mod module_object;
mod module_search;
mod module_send;
mod module_show;
mod module_source;
mod module_tags;
mod module_usage;
pub(crate) mod namespace;
mod namespace_set;
mod page;
pub(crate) mod promote;
pub(crate) mod provider;
mod provider_keys;
mod provider_list;
mod provider_publish;
mod provider_send;
mod service_token;
mod show;
pub(crate) mod store;
mod store_check;
mod store_check_trusts;
pub(crate) mod token;
pub(crate) mod trust;
mod trust_delete;
pub(crate) mod webhook;

use std::path::Path;
use std::process::ExitCode;

use stile_core::audit::{Event, Kept, Kind, Outcome};
use stile_core::clock::Clock;
use stile_core::grants::OperatorAccess;
use stile_core::principal::{Principal, parse_typed};
use stile_protocol::reply::ErrorCode;
use stile_store::{AwsDeadlines, AwsSession, Store, StoreError};

use crate::aws_session;
use crate::claims::Claims;
use crate::error::CommandError;
use crate::output::{Output, notice};
use crate::target::{StoreLocation, StoreTarget};

/// The context of every command.
#[derive(Debug)]
pub(crate) struct Context {
    /// The output for data.
    pub(crate) output: Output,
    /// The name of the local user, for the records of a data folder.
    pub(crate) user: String,
    /// The time at which the program started, in Unix seconds.
    pub(crate) now: i64,
    /// The clock, for a command that takes long.
    pub(crate) clock: Clock,
    /// Whether the user wants no colours.
    pub(crate) no_colour: bool,
    /// What a CI job claims about the versions that it publishes.
    pub(crate) claims: Option<Claims>,
}

impl Context {
    /// Returns the same context with other claims about the versions that it publishes.
    fn with_claims(&self, claims: Claims) -> Self {
        Self {
            output: self.output,
            user: self.user.clone(),
            now: self.now,
            clock: self.clock.clone(),
            no_colour: self.no_colour,
            claims: Some(claims),
        }
    }

    /// Opens a store to read it. No record names the reader, so STS is not asked.
    async fn open(&self, target: &StoreTarget) -> Result<OpenStore, CommandError> {
        match target.location()? {
            StoreLocation::Folder(folder) => self.open_folder(&folder, target),
            StoreLocation::Aws(place) => {
                let session = aws_session::load(self.now).await?;
                let store = Store::on_aws(&place, None, session.sdk(), target.aws_deadlines());
                Ok(OpenStore { store, operator: self.local_operator() })
            }
        }
    }

    /// Opens a store to change it. The records name the operator, so on AWS this asks STS.
    async fn open_to_change(&self, target: &StoreTarget) -> Result<OpenStore, CommandError> {
        match target.location()? {
            StoreLocation::Folder(folder) => self.open_folder(&folder, target),
            StoreLocation::Aws(place) => {
                let (session, deadlines) =
                    (aws_session::load(self.now).await?, target.aws_deadlines());
                let operator = operator_on_aws(&session, deadlines).await?;
                let store = Store::on_aws(&place, None, session.sdk(), deadlines);
                Ok(OpenStore { store, operator })
            }
        }
    }

    /// Opens a store to take access away. Unlike other changes, that does not depend on STS: an
    /// operator who stops a leaked token can be without it.
    async fn open_to_revoke(&self, target: &StoreTarget) -> Result<OpenStore, CommandError> {
        match target.location()? {
            StoreLocation::Folder(folder) => self.open_folder(&folder, target),
            StoreLocation::Aws(place) => {
                let (session, deadlines) =
                    (aws_session::load(self.now).await?, target.aws_deadlines());
                let operator = match operator_on_aws(&session, deadlines).await {
                    Ok(operator) => operator,
                    Err(_) => {
                        notice(format_args!(
                            "STS does not say who you are, so the audit log names `{}`",
                            self.user
                        ));
                        self.local_operator()
                    }
                };
                let store = Store::on_aws(&place, None, session.sdk(), deadlines);
                Ok(OpenStore { store, operator })
            }
        }
    }

    fn open_folder(&self, folder: &Path, target: &StoreTarget) -> Result<OpenStore, CommandError> {
        let store = Store::open_folder(folder, target.embedded_deadlines())?;
        Ok(OpenStore { store, operator: self.local_operator() })
    }

    /// Returns the right of the local user. The file system decides who can open a folder.
    fn local_operator(&self) -> OperatorAccess {
        OperatorAccess::for_store_writer(&self.user)
    }
}

/// Returns the right of the operator on AWS. IAM decides who can use the table.
async fn operator_on_aws(
    session: &AwsSession,
    deadlines: AwsDeadlines,
) -> Result<OperatorAccess, CommandError> {
    aws_session::operator_arn(session, deadlines).await.map(OperatorAccess::for_store_writer)
}

/// An open store, and the right of the operator who opened it.
#[derive(Debug)]
struct OpenStore {
    store: Store,
    operator: OperatorAccess,
}

/// Creates the audit event of a change by this operator.
fn event(kind: Kind, operator: &OperatorAccess) -> Event {
    let mut event = Event::new(kind);
    event.operator(operator);
    event
}

/// Returns what the store keeps of a change by this operator, which this event describes.
fn kept(event: &Event, context: &Context) -> Kept {
    Kept::new(event, context.now)
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
