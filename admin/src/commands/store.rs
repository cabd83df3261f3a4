//! `store`: creates the missing parts of a store.

use std::process::ExitCode;

use serde_json::json;
use stile_protocol::audience::Audience;
use stile_store::{AwsDeadlines, HostKept, Place, Store};

use super::{CommandResult, Context};
use crate::cli::{StoreInit, StoreVerb};
use crate::error::CommandError;
use crate::target::StoreLocation;

/// Runs one subcommand.
pub(crate) async fn run(context: &Context, verb: StoreVerb) -> CommandResult {
    let StoreVerb::Init(StoreInit { store, host }) = verb;
    let (line, json) = match store.location()? {
        StoreLocation::Folder(_) if host.is_some() => {
            return Err(CommandError::failed(
                "`--host` requires `--table`; with `--data`, set the host of the broker instead",
            ));
        }
        StoreLocation::Folder(folder) => {
            let made = Store::init_folder(&folder, store.embedded_deadlines())?;
            let data = folder.display();
            let line = match (made.folder, made.database) {
                (true, _) => format!("created the folder `{data}` and the database in it"),
                (false, true) => {
                    format!("created the database in `{data}`; the folder already existed")
                }
                (false, false) => format!("unchanged: the store in `{data}` is complete"),
            };
            (
                line,
                json!({ "data": data.to_string(), "made_folder": made.folder, "made_database": made.database }),
            )
        }
        StoreLocation::Aws(place) => {
            let deadlines = store.aws_deadlines();
            let made = Box::pin(Store::init_aws(&place, None, deadlines)).await?;
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
                let written = keep_host(context, place, host, deadlines).await?;
                line.push_str(&format!(
                    "; the table {} for registry `{host}`",
                    if written { "is now" } else { "was already" }
                ));
                json["made_host"] = written.into();
            }
            (line, json)
        }
    };
    context.output.outcome(line, &json)?;
    Ok(ExitCode::SUCCESS)
}

/// Writes the registry host into the table, and returns whether it was missing.
async fn keep_host(
    context: &Context,
    place: Place,
    host: &Audience,
    deadlines: AwsDeadlines,
) -> Result<bool, CommandError> {
    let table = place.table.clone();
    let store = Box::pin(Store::connect_aws(&place, None, None, deadlines)).await;
    match store.keep_host(&context.operator(), host).await? {
        HostKept::Made => Ok(true),
        HostKept::Same => Ok(false),
        HostKept::Another(other) => Err(CommandError::refused(format!(
            "table `{table}` belongs to registry `{other}`, not `{host}`"
        ))
        .hint("create a separate table for each registry: tokens and keys belong to one host")),
    }
}
