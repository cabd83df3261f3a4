//! `store`: makes what is missing of a store.

use std::process::ExitCode;

use serde_json::json;
use stile_broker::store::{Aws, Embedded};

use super::{Context, Done};
use crate::cli::StoreVerb;
use crate::target::Named;

/// Runs one verb.
pub(crate) async fn run(context: &Context, verb: StoreVerb) -> Done {
    let StoreVerb::Init(target) = verb;
    let (line, told) = match target.named()? {
        Named::Folder(folder) => {
            let made = Embedded::init(&folder)?;
            let data = folder.display();
            let line = match (made.folder, made.database) {
                (true, _) => format!("made the folder `{data}` and the database in it"),
                (false, true) => format!("made the database in `{data}`; the folder was there"),
                (false, false) => format!("nothing to make: `{data}` has all that a store needs"),
            };
            (line, json!({ "data": data.to_string(), "made_folder": made.folder, "made_database": made.database }))
        }
        Named::Aws(place) => {
            let made = Box::pin(Aws::init(place.clone(), None)).await?;
            let parts =
                [(made.table, "table", &place.table), (made.bucket, "bucket", &place.bucket), (made.key, "KMS key", &place.kms_key)];
            let new: Vec<String> = parts.iter().filter(|(made, ..)| *made).map(|(_, what, name)| format!("the {what} `{name}`")).collect();
            let line = match new.as_slice() {
                [] => "nothing to make: table, bucket and KMS key are all there".to_owned(),
                new => format!("made {}", new.join(", ")),
            };
            (line, json!({ "table": place.table, "made_table": made.table, "made_bucket": made.bucket, "made_key": made.key }))
        }
    };
    context.output.outcome(line, &told)?;
    Ok(ExitCode::SUCCESS)
}
