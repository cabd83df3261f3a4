//! `store`: makes what is missing of a store.

use std::process::ExitCode;

use serde_json::json;
use stile_protocol::audience::Audience;
use stile_store::{Aws, AwsDeadlines, Embedded, HostKept, Place};

use super::{CommandResult, Context};
use crate::cli::{StoreInit, StoreVerb};
use crate::error::CommandError;
use crate::target::StoreLocation;

/// Runs one verb.
pub(crate) async fn run(context: &Context, verb: StoreVerb) -> CommandResult {
    let StoreVerb::Init(StoreInit { store, host }) = verb;
    let (line, told) = match store.location()? {
        StoreLocation::Folder(_) if host.is_some() => {
            return Err(CommandError::failed(
                "`--host` goes with `--table`: with `--data`, the broker is told its host",
            ));
        }
        StoreLocation::Folder(folder) => {
            let made = Embedded::init(&folder, store.embedded_deadlines())?;
            let data = folder.display();
            let line = match (made.folder, made.database) {
                (true, _) => format!("made the folder `{data}` and the database in it"),
                (false, true) => format!("made the database in `{data}`; the folder was there"),
                (false, false) => format!("nothing to make: `{data}` has all that a store needs"),
            };
            (
                line,
                json!({ "data": data.to_string(), "made_folder": made.folder, "made_database": made.database }),
            )
        }
        StoreLocation::Aws(place) => {
            let deadlines = store.aws_deadlines();
            let made = Box::pin(Aws::init(place.clone(), None, deadlines)).await?;
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
                [] => "nothing to make: table, bucket and KMS key are all there".to_owned(),
                new => format!("made {}", new.join(", ")),
            };
            let mut told = json!({ "table": place.table, "made_table": made.table, "made_bucket": made.bucket, "made_key": made.key });
            if let Some(host) = &host {
                let kept = keep_host(place, host, deadlines).await?;
                line.push_str(&format!(
                    "; the table {} for registry `{host}`",
                    if kept { "is from now on" } else { "was and is" }
                ));
                told["made_host"] = kept.into();
            }
            (line, told)
        }
    };
    context.output.outcome(line, &told)?;
    Ok(ExitCode::SUCCESS)
}

/// Writes the host into the table, unless it is there; whether it was not.
async fn keep_host(
    place: Place,
    host: &Audience,
    deadlines: AwsDeadlines,
) -> Result<bool, CommandError> {
    let table = place.table.clone();
    let store = Box::pin(Aws::connect(place, None, None, deadlines)).await;
    match store.keep_host(host).await? {
        HostKept::Made => Ok(true),
        HostKept::Same => Ok(false),
        HostKept::Another(other) => Err(CommandError::refused(format!(
            "table `{table}` is for registry `{other}`, not `{host}`"
        ))
        .hint("make another table for another registry: tokens and keys are for one host")),
    }
}
