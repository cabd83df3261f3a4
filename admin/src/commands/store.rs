//! `store`: makes what is missing of a store.

use std::process::ExitCode;

use serde_json::json;
use stile_broker::store::Embedded;

use super::{Context, Done};
use crate::cli::StoreVerb;

/// Runs one verb.
pub(crate) fn run(context: &Context, verb: StoreVerb) -> Done {
    let StoreVerb::Init(target) = verb;
    let made = Embedded::init(&target.data)?;
    let data = target.data.display();
    let line = match (made.folder, made.database) {
        (true, _) => format!("made the folder `{data}` and the database in it"),
        (false, true) => format!("made the database in `{data}`; the folder was there"),
        (false, false) => format!("nothing to make: `{data}` has all that a store needs"),
    };
    context.output.outcome(line, &json!({ "data": data.to_string(), "made_folder": made.folder, "made_database": made.database }))?;
    Ok(ExitCode::SUCCESS)
}
