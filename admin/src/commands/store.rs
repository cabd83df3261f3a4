//! `store`: creates the missing parts of a store, and migrates it.

use std::process::ExitCode;

use serde_json::json;
use stile_core::audit::{Kept, Kind, Outcome};
use stile_core::grants::OperatorAccess;
use stile_protocol::audience::Audience;
use stile_store::{HostRecorded, Migrated, Store, StoreError};

use super::{CommandResult, Context, event, kept, operator_on_aws, record, store_check};
use crate::aws_session;
use crate::cli::{StoreInit, StoreMigrate, StoreVerb};
use crate::error::CommandError;
use crate::progress::spinning;
use crate::target::StoreLocation;

/// Runs one subcommand.
pub(crate) async fn run(context: &Context, verb: StoreVerb) -> CommandResult {
    match verb {
        StoreVerb::Init(args) => init(context, args).await?,
        StoreVerb::Migrate(args) => migrate(context, args).await?,
        StoreVerb::Check(args) => return store_check::run(context, args).await,
    }
    Ok(ExitCode::SUCCESS)
}

async fn init(context: &Context, StoreInit { store, host }: StoreInit) -> Result<(), CommandError> {
    let (line, json) = match store.location()? {
        StoreLocation::Folder(folder) => {
            let operator = context.local_operator();
            let mut event = event(Kind::Store, &operator);
            event.resource(folder.display().to_string());
            let kept = kept(&event, context);
            let made = Store::init_folder(&folder, store.embedded_deadlines());
            let made = match made {
                Ok(made) if made.folder || made.database => {
                    let opened = Store::open_folder(&folder, store.embedded_deadlines());
                    keep(opened, &operator, &kept, Outcome::Created).await.map(|()| made)
                }
                made => made,
            };
            let made = record(event, made, |made| created(made.folder || made.database))?;
            let data = folder.display();
            let mut line = match (made.folder, made.database) {
                (true, _) => format!("created the folder `{data}` and the database in it"),
                (false, true) => {
                    format!("created the database in `{data}`; the folder already existed")
                }
                (false, false) => format!("unchanged: the store in `{data}` is complete"),
            };
            let mut json = json!({ "data": data.to_string(), "made_folder": made.folder, "made_database": made.database });
            if let Some(host) = &host {
                let opened = Store::open_folder(&folder, store.embedded_deadlines())?;
                let written =
                    record_host(context, &operator, &opened, &format!("folder `{data}`"), host)
                        .await?;
                line.push_str(&for_registry("folder", host, written));
                json["made_host"] = written.into();
            }
            (line, json)
        }
        StoreLocation::Aws(place) => {
            let (session, deadlines) =
                (aws_session::load(context.now).await?, store.aws_deadlines());
            let operator = operator_on_aws(&session, deadlines).await?;
            let mut event = event(Kind::Store, &operator);
            event.resource(place.table.clone());
            let making = Box::pin(Store::init_on_aws(&place, session.sdk(), deadlines));
            let made = spinning("creating what is missing", making).await;
            let made = match made {
                Ok(made) if made.table || made.bucket || made.key => {
                    let opened = Store::on_aws(&place, None, session.sdk(), deadlines);
                    let kept = kept(&event, context);
                    keep(Ok(opened), &operator, &kept, Outcome::Created).await.map(|()| made)
                }
                made => made,
            };
            let made = record(event, made, |made| created(made.table || made.bucket || made.key))?;
            let parts = [
                (made.table, "table", &place.table),
                (made.bucket, "bucket", &place.bucket),
                (made.key, "KMS key", &place.kms_key),
            ];
            let new: Vec<String> = parts
                .iter()
                .filter(|(made, ..)| *made)
                .map(|(_, what, name)| format!("the {what} `{name}`"))
                .collect();
            let mut line = match new.as_slice() {
                [] => "unchanged: table, bucket and KMS key already exist".to_owned(),
                new => format!("created {}", new.join(", ")),
            };
            let mut json = json!({ "table": place.table, "made_table": made.table, "made_bucket": made.bucket, "made_key": made.key });
            if let Some(host) = &host {
                let opened = Store::on_aws(&place, None, session.sdk(), deadlines);
                let table = format!("table `{}`", place.table);
                let written = record_host(context, &operator, &opened, &table, host).await?;
                line.push_str(&for_registry("table", host, written));
                json["made_host"] = written.into();
            }
            (line, json)
        }
    };
    context.output.outcome(line, &json)
}

/// Keeps the event of a change of the store as a whole, after the change.
async fn keep(
    opened: Result<Store, StoreError>,
    operator: &OperatorAccess,
    kept: &Kept,
    outcome: Outcome,
) -> Result<(), StoreError> {
    opened?.keep_operation(operator, kept, outcome).await
}

const fn created(any: bool) -> Outcome {
    if any { Outcome::Created } else { Outcome::Unchanged }
}

async fn migrate(
    context: &Context,
    StoreMigrate { store, dry_run }: StoreMigrate,
) -> Result<(), CommandError> {
    let folder = match store.location()? {
        StoreLocation::Folder(folder) => folder,
        StoreLocation::Aws(place) => {
            let table = place.table;
            return context.output.outcome(
                format_args!(
                    "unchanged: each item of table `{table}` has its own format, so a table needs no migration"
                ),
                &json!({ "status": "unchanged", "table": table }),
            );
        }
    };
    let deadlines = store.embedded_deadlines();
    let operator = context.local_operator();
    let mut event = event(Kind::Store, &operator);
    event.resource(folder.display().to_string());
    let pending = Store::pending_migration(&folder, deadlines);
    let pending = match pending {
        Err(error) if dry_run => return Err(error.into()),
        Ok(pending) if dry_run || pending.from == pending.to => pending,
        Err(error) => record(event, Err(error), |_| Outcome::Changed)?,
        Ok(pending) => {
            let (opened, kept) = (Store::open_folder(&folder, deadlines), kept(&event, context));
            let migrated = keep(opened, &operator, &kept, Outcome::Changed).await;
            record(event, migrated.map(|()| pending), |_| Outcome::Changed)?
        }
    };
    let (Migrated { from, to }, data) = (pending, folder.display());
    let (status, line) = match (from == to, dry_run) {
        (true, _) => ("unchanged", format!("unchanged: the store in `{data}` has format {to}")),
        (false, true) => {
            ("pending", format!("would migrate the store in `{data}` from format {from} to {to}"))
        }
        (false, false) => {
            ("migrated", format!("migrated the store in `{data}` from format {from} to {to}"))
        }
    };
    let data = data.to_string();
    context.output.outcome(line, &json!({ "status": status, "data": data, "from": from, "to": to }))
}

/// Records the registry host in the store, and returns whether it was missing. The store has that
/// name in messages.
async fn record_host(
    context: &Context,
    operator: &OperatorAccess,
    store: &Store,
    name: &str,
    host: &Audience,
) -> Result<bool, CommandError> {
    let mut event = event(Kind::Store, operator);
    event.resource(host.to_string());
    let recorded = store.record_host(operator, host, &kept(&event, context)).await;
    match record(event, recorded, |recorded| match recorded {
        HostRecorded::Created => Outcome::Created,
        HostRecorded::Same => Outcome::Unchanged,
        HostRecorded::Another(_) => Outcome::Conflict,
    })? {
        HostRecorded::Created => Ok(true),
        HostRecorded::Same => Ok(false),
        HostRecorded::Another(other) => {
            let kind = name.split(' ').next().unwrap_or(name);
            Err(CommandError::refused(format!(
                "{name} belongs to registry `{other}`, not `{host}`"
            ))
            .hint(format!(
                "create a separate {kind} for each registry: tokens and keys belong to one host"
            )))
        }
    }
}

/// Returns the end of the line that says which registry a store is for.
fn for_registry(kind: &str, host: &Audience, written: bool) -> String {
    let since = if written { "is now" } else { "was already" };
    format!("; the {kind} {since} for registry `{host}`")
}
