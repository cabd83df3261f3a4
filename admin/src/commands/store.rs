//! `store`: makes what is missing of a store.

use std::process::ExitCode;

use serde_json::json;
use stile_protocol::audience::Audience;
use stile_store::{AwsDeadlines, HostKept, Place, Store};

use super::{Context, Done};
use crate::cli::{StoreInit, StoreVerb};
use crate::failure::Failure;
use crate::target::Named;

/// Runs one verb.
pub(crate) async fn run(context: &Context, verb: StoreVerb) -> Done {
    let StoreVerb::Init(StoreInit { store, host }) = verb;
    let (line, told) = match store.named()? {
        Named::Folder(_) if host.is_some() => {
            return Err(Failure::not_tried(
                "`--host` goes with `--table`: with `--data`, the broker is told its host",
            ));
        }
        Named::Folder(folder) => {
            let made = Store::init_folder(&folder, store.embedded_deadlines())?;
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
        Named::Aws(place) => {
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
                [] => "nothing to make: table, bucket and KMS key are all there".to_owned(),
                new => format!("made {}", new.join(", ")),
            };
            let mut told = json!({ "table": place.table, "made_table": made.table, "made_bucket": made.bucket, "made_key": made.key });
            if let Some(host) = &host {
                let kept = keep_host(context, place, host, deadlines).await?;
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
    context: &Context,
    place: Place,
    host: &Audience,
    deadlines: AwsDeadlines,
) -> Result<bool, Failure> {
    let table = place.table.clone();
    let store = Box::pin(Store::connect_aws(&place, None, None, deadlines)).await;
    match store.keep_host(&context.operator(), host).await? {
        HostKept::Made => Ok(true),
        HostKept::Same => Ok(false),
        HostKept::Another(other) => Err(Failure::refused(format!(
            "table `{table}` is for registry `{other}`, not `{host}`"
        ))
        .hint("make another table for another registry: tokens and keys are for one host")),
    }
}
