//! `backup` and `restore`: copy a data folder into a backup, and a backup into a new data folder.

use std::path::PathBuf;
use std::process::ExitCode;

use indicatif::ProgressBar;
use serde_json::json;
use stile_core::audit::{Kind, Outcome};
use stile_core::clock::rfc3339;
use stile_store::{CopyProgress, Store};

use super::{CommandResult, Context, event, kept, record};
use crate::cli::{Backup, Restore};
use crate::error::CommandError;
use crate::output::notice;
use crate::progress::archives_bar;
use crate::target::{StoreLocation, StoreTarget, quoted};

/// Copies a data folder into a backup.
pub(crate) async fn back_up(context: &Context, Backup { out, store }: Backup) -> CommandResult {
    let data = data_folder(&store)?;
    let operator = context.local_operator();
    let mut event = event(Kind::Backup, &operator);
    event.resource(data.display().to_string());
    let bar = archives_bar("copied");
    let on_progress = shown_on(&bar);
    let deadlines = store.embedded_deadlines();
    let copying =
        Store::back_up_folder(&operator, &data, &out, deadlines, context.now, on_progress);
    let done = copying.await;
    bar.finish_and_clear();
    let done = record(event, done, |_| Outcome::Created)?;
    let (host, out) = (done.host.as_ref().map(ToString::to_string), out.display().to_string());
    let line = format!(
        "backed up {} to `{out}`: {} of {} archives were new, with {} bytes",
        of_registry(host.as_deref(), &data.display().to_string()),
        done.copied,
        done.archives,
        done.copied_bytes
    );
    let json = json!({
        "data": data.display().to_string(), "out": out, "host": host, "format": done.format,
        "taken_at": rfc3339(context.now), "archives": done.archives, "copied": done.copied,
        "copied_bytes": done.copied_bytes,
    });
    context.output.outcome(line, &json)?;
    Ok(ExitCode::SUCCESS)
}

/// Restores a backup into a new data folder, and says what is not as it was.
pub(crate) async fn restore(context: &Context, Restore { from, store }: Restore) -> CommandResult {
    let data = data_folder(&store)?;
    let operator = context.local_operator();
    let mut event = event(Kind::Store, &operator);
    event.resource(data.display().to_string());
    let bar = archives_bar("restored");
    let on_progress = shown_on(&bar);
    let kept = kept(&event, context);
    let copying = Store::restore_folder(&operator, &from, &data, &kept, on_progress);
    let done = copying.await;
    bar.finish_and_clear();
    let done = record(event, done, |_| Outcome::Created)?;
    let shown = data.display().to_string();
    let (taken_at, proofs_from) = (rfc3339(done.taken_at), rfc3339(done.proofs_from));
    let line = format!(
        "restored {} as of {taken_at} to `{shown}`: {} archives with {} bytes",
        of_registry(done.host.as_deref(), &from.display().to_string()),
        done.archives,
        done.bytes
    );
    let json = json!({
        "data": shown, "from": from.display().to_string(), "host": done.host,
        "format": done.format, "taken_at": taken_at, "archives": done.archives,
        "bytes": done.bytes, "proofs_from": proofs_from,
    });
    context.output.outcome(line, &json)?;
    let flag = format!("--data {}", quoted(&shown));
    notice(format_args!(
        "revocations are those of {taken_at}: a principal that was revoked later is not revoked; hint: compare `stile-admin token list {flag}` with your audit log, and revoke again"
    ));
    notice(format_args!(
        "grants are those of {taken_at}: a grant that was deleted later is there again; hint: compare `stile-admin grant list {flag}` with your audit log, and delete again"
    ));
    notice(format_args!(
        "all earlier tokens are invalid, and the registry gives new ones for proofs that are signed from {proofs_from} on"
    ));
    Ok(ExitCode::SUCCESS)
}

/// Shows the progress on a bar.
fn shown_on(bar: &ProgressBar) -> impl Fn(CopyProgress) + Send + 'static {
    let bar = bar.clone();
    move |CopyProgress { done, all }| {
        bar.set_length(all as u64);
        bar.set_position(done as u64);
    }
}

/// Returns the data folder. A store on AWS has its own backups.
fn data_folder(store: &StoreTarget) -> Result<PathBuf, CommandError> {
    match store.location()? {
        StoreLocation::Folder(folder) => Ok(folder),
        StoreLocation::Aws(place) => Err(CommandError::failed(format!(
            "table `{}` and bucket `{}` are not copied by this program: DynamoDB's point-in-time recovery and the versions of the bucket restore them",
            place.table, place.bucket
        ))
        .hint("see the section \"Restore\" of `docs/operations.md`")),
    }
}

/// Returns the name of the registry, or of the folder if no registry is recorded.
fn of_registry(host: Option<&str>, folder: &str) -> String {
    host.map_or_else(|| format!("`{folder}`"), |host| format!("registry `{host}`"))
}
