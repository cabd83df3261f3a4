//! Promotes a version of a module: its archive.

use std::io::{Seek as _, Write as _};

use serde_json::{Value, json};
use stile_core::package::Format;
use stile_protocol::names::ModuleAddress;
use stile_store::Retry;

use super::{Promotion, at, not_listed};
use crate::claims::Claims;
use crate::commands::Context;
use crate::commands::module_send::{Sent, publish_archive};
use crate::error::CommandError;
use crate::fetch::{Incoming, Purpose};
use crate::output::notice;
use crate::progress::{download_bar, spinning};
use crate::published::{Contents, Place, contents, find, locate, text};
use crate::upload::Archive;

/// The archive of the version at the registry that has it.
struct Source {
    format: Format,
    /// The SHA-256 in lower-case hex.
    sha256: String,
    bytes: u64,
    place: Place,
    claims: Claims,
}

/// Promotes the version, and prints what was done.
pub(super) async fn promote(
    context: &Context,
    promotion: &Promotion<ModuleAddress>,
) -> Result<(), CommandError> {
    let not_promoted = |error| promotion.not_promoted(error);
    let source = Box::pin(source(promotion)).await.map_err(not_promoted)?;
    if Box::pin(is_promoted(promotion, &source)).await.map_err(not_promoted)? {
        return report(context, promotion, &source, "unchanged");
    }
    if promotion.dry_run {
        return report(context, promotion, &source, "pending");
    }
    let archive = Box::pin(download(promotion, &source)).await.map_err(not_promoted)?;
    let context = &context.with_claims(source.claims.clone());
    let (address, version) = (&promotion.address, &promotion.version);
    let sending = publish_archive(context, &promotion.to, address, version, &archive);
    let Sent { status, warnings } = Box::pin(sending).await.map_err(at(&promotion.to))?;
    for warning in &warnings {
        notice(warning);
    }
    Box::pin(check_listed(promotion, &source)).await.map_err(at(&promotion.to))?;
    let status = if status == "unchanged" { status } else { "promoted" };
    report(context, promotion, &source, status)
}

/// Reads which archive the version has at `from`.
async fn source(promotion: &Promotion<ModuleAddress>) -> Result<Source, CommandError> {
    let Promotion { address, version, from, .. } = promotion;
    let missing = || CommandError::refused("there is no such version");
    let details: Value = spinning("reading the version", Box::pin(details(promotion, true)))
        .await
        .and_then(|found| found.ok_or_else(missing))
        .map_err(at(from))?;
    promotion.check_life(&details, "unpublished")?;
    let provenance = &details["provenance"];
    let claims = Claims::promoted(from.host(), provenance);
    let found = contents(from, address, version, provenance).await.map_err(at(from))?;
    let (address, version) = (address.clone(), version.clone());
    match found.map_err(CommandError::refused).map_err(at(from))? {
        Contents::Archive { format, sha256, bytes, is_object } => {
            let place = if is_object { Place::Object } else { Place::Module };
            Ok(Source { format, sha256, bytes, place: place(address, version), claims })
        }
        Contents::Source(source) => Err(CommandError::refused(format!(
            "`{}` has no bytes of it, only the source `{source}`",
            from.host()
        ))
        .hint(format!(
            "publish the source there: `stile-admin module publish {address} {version} --source '{source}' --registry-host {}`",
            promotion.to.host()
        ))),
    }
}

/// Returns whether `to` has the version with these bytes. Other bytes are an error.
async fn is_promoted(
    promotion: &Promotion<ModuleAddress>,
    source: &Source,
) -> Result<bool, CommandError> {
    let to = &promotion.to;
    let found = spinning("reading the version", Box::pin(details(promotion, false)));
    let Some(found) = found.await.map_err(at(to))? else { return Ok(false) };
    match text(&found["provenance"]["sha256"]) {
        Some(sha256) if sha256 == source.sha256 => {}
        Some(sha256) => {
            let version = format_args!("version {}", promotion.version);
            return Err(promotion.different(version, (&source.sha256, sha256)));
        }
        None => {
            let problem = format!("`{}` has the version with a source, and no bytes", to.host());
            return Err(CommandError::refused(problem).hint("promote a new version"));
        }
    }
    if found["unpublished"].is_object() {
        let (address, version) = (&promotion.address, &promotion.version);
        return Err(CommandError::refused(format!("it is unpublished at `{}`", to.host())).hint(
            format!(
                "bring it back with `stile-admin module restore {address} {version} --registry-host {}`",
                to.host()
            ),
        ));
    }
    Ok(true)
}

/// Downloads the archive to a temporary file, and verifies it.
async fn download(
    promotion: &Promotion<ModuleAddress>,
    source: &Source,
) -> Result<Archive, CommandError> {
    let from = &promotion.from;
    let url = locate(from, &source.place).await.map_err(at(from))?;
    let opening = Incoming::open(&url, from.environment(), Purpose::Promotion, source.bytes);
    let incoming = opening.await.map_err(at(from))?;
    let mut file = tempfile::tempfile().map_err(|error| CommandError::unwritable(&error))?;
    let bar = download_bar(Some(source.bytes));
    let writing = incoming.digest_to(|bytes| {
        bar.inc(bytes.len() as u64);
        file.write_all(bytes).map_err(|error| CommandError::unwritable(&error))
    });
    let found = writing.await.map_err(at(from))?;
    bar.finish_and_clear();
    let name = promotion.about();
    if found != source.sha256 {
        return Err(promotion.changed_on_the_way(&name, &found, &source.sha256));
    }
    file.rewind().map_err(|error| CommandError::unwritable(&error))?;
    let archive = Archive::of_registry(name.clone(), file, source.format)?;
    match archive.sha256() == source.sha256 {
        true => Ok(archive),
        false => Err(promotion.changed_on_the_way(&name, archive.sha256(), &source.sha256)),
    }
}

/// Checks that `to` lists the version with the same bytes. It can show it as it was a moment ago.
async fn check_listed(
    promotion: &Promotion<ModuleAddress>,
    source: &Source,
) -> Result<(), CommandError> {
    let mut retry = Retry::default();
    loop {
        if let Some(found) = details(promotion, false).await? {
            let found = text(&found["provenance"]["sha256"]).unwrap_or("none").to_owned();
            return match found == source.sha256 {
                true => Ok(()),
                false => Err(not_listed(format_args!(
                    "its SHA-256 there is {found}, and not {}",
                    source.sha256
                ))),
            };
        }
        retry.wait().await.map_err(|_| not_listed("the registry does not list it"))?;
    }
}

/// Reads the details of the version, of the registry that has it or of the one that gets it.
async fn details(
    promotion: &Promotion<ModuleAddress>,
    of_source: bool,
) -> Result<Option<Value>, CommandError> {
    let api = if of_source { &promotion.from } else { &promotion.to };
    let path = format!("/v1/modules/{}/{}", promotion.address, promotion.version);
    find(api, &path, &promotion.about()).await
}

fn report(
    context: &Context,
    promotion: &Promotion<ModuleAddress>,
    source: &Source,
    status: &str,
) -> Result<(), CommandError> {
    let Promotion { address, version, .. } = promotion;
    let ((from, to), Source { sha256, bytes, .. }) = (promotion.hosts(), source);
    let done = if status == "pending" { "would promote" } else { status };
    let json = json!({
        "status": status,
        "module": address.to_string(),
        "version": version.to_string(),
        "from": from,
        "to": to,
        "sha256": sha256,
        "bytes": bytes,
    });
    let lines = format_args!("{done} {address} {version} (sha256:{sha256}) from {from} to {to}");
    context.output.outcome(lines, &json)
}
