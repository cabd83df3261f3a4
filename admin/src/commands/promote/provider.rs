//! Promotes a version of a provider: its archives, the list of their digests, and its signature.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{Seek as _, Write as _};
use std::path::Path;

use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use indicatif::ProgressBar;
use serde_json::{Value, json};
use stile_core::package::provider::{Platform, Release, Sums, zip_name};
use stile_protocol::names::ProviderAddress;
use stile_store::Retry;

use super::{Promotion, at, not_listed};
use crate::claims::Claims;
use crate::commands::Context;
use crate::commands::provider_send::{self, Sent};
use crate::error::CommandError;
use crate::fetch::{Incoming, Purpose};
use crate::output::notice;
use crate::progress::{download_bar, spinning};
use crate::provider::{LocalRelease, ZipFile};
use crate::published::{Place, PublishedRelease, get, keys, locate, release};

/// What `to` has of the version.
enum Target {
    /// The same files, with a signature that clients accept. There is nothing to do.
    Complete,
    /// Nothing, or only some of the platforms, or a signature of a compromised key. It lacks these.
    Lacks(Vec<Platform>),
}

/// Promotes the version, and prints what was done.
pub(super) async fn promote(
    context: &Context,
    promotion: &Promotion<ProviderAddress>,
) -> Result<(), CommandError> {
    let Promotion { address, version, from, to, .. } = promotion;
    let not_promoted = |error| promotion.not_promoted(error);
    let source = Box::pin(source(promotion)).await.map_err(not_promoted)?;
    let target = Box::pin(target(promotion, &source.release)).await.map_err(not_promoted)?;
    let lacks = match target {
        Target::Complete => return report(context, promotion, &source, ("unchanged", &[])),
        Target::Lacks(platforms) => platforms,
    };
    Box::pin(check_key(promotion, &source.release)).await.map_err(not_promoted)?;
    if promotion.dry_run {
        return report(context, promotion, &source, ("pending", &lacks));
    }
    let zips = Box::pin(download(promotion, &source.release, &lacks)).await;
    let zips = zips.map_err(not_promoted)?;
    let local = LocalRelease::of_registry(address, version, &source.release, zips);
    let local = local.map_err(not_promoted)?;
    let context = &context.with_claims(Claims::promoted(from.host(), &source.details));
    let (of, files) = ((address, version), (&local, None));
    let sending = provider_send::publish(context, to, of, files, promotion.jobs);
    let Sent { status, .. } = Box::pin(sending).await.map_err(at(to)).map_err(not_promoted)?;
    Box::pin(check_listed(promotion, &source.release)).await.map_err(at(to))?;
    let status = if status == "published" { "promoted" } else { status };
    report(context, promotion, &source, (status, &lacks))
}

/// Reads the version at `from`, and verifies the signature of its digests.
async fn source(promotion: &Promotion<ProviderAddress>) -> Result<PublishedRelease, CommandError> {
    let Promotion { address, version, from, .. } = promotion;
    let missing = || CommandError::refused("there is no such version");
    let found = spinning("reading the version", Box::pin(release(from, address, version)))
        .await
        .and_then(|found| found.ok_or_else(missing))
        .map_err(at(from))?;
    promotion.check_life(&found.details, "yanked")?;
    let verified = keys(from, address, version, &found.release).await.map_err(at(from))?;
    verified.map_err(CommandError::refused).map_err(at(from))?;
    Ok(found)
}

/// Compares the version at `to` with that of `from`. Other files are an error.
async fn target(
    promotion: &Promotion<ProviderAddress>,
    source: &Release,
) -> Result<Target, CommandError> {
    let Promotion { address, version, to, .. } = promotion;
    let found = spinning("reading the version", Box::pin(release(to, address, version)));
    let Some(PublishedRelease { release: target, details }) = found.await.map_err(at(to))? else {
        return Ok(Target::Lacks(source.files.keys().cloned().collect()));
    };
    let (from_host, to_host) = promotion.hosts();
    for (platform, file) in &target.files {
        let name = zip_name(&address.provider_type, version, platform);
        match source.files.get(platform) {
            Some(own) if own.sha256 == file.sha256 => {}
            Some(own) => {
                let digests = (own.sha256.as_str(), file.sha256.as_str());
                return Err(promotion.different(format_args!("`{name}`"), digests));
            }
            None => {
                let problem = format!("`{to_host}` has `{name}`, and `{from_host}` does not");
                return Err(CommandError::refused(problem).hint(format!(
                    "publish the platform at `{from_host}` too, so that one signed list has all of them"
                )));
            }
        }
    }
    let manifest = |of: &Release| {
        let sums = Sums::parse(&of.sums.text, &address.provider_type, version);
        sums.map(|sums| sums.manifest().unwrap_or("none").to_owned()).unwrap_or_default()
    };
    let manifests = (manifest(source), manifest(&target));
    if manifests.0 != manifests.1 {
        return Err(promotion.different("the manifest", (&manifests.0, &manifests.1)));
    }
    if source.protocols != target.protocols {
        let problem = format!("the protocol versions at `{from_host}` and `{to_host}` differ");
        return Err(CommandError::refused(problem).hint("promote a new version"));
    }
    let is_there = |platform: &&Platform| target.files.contains_key(*platform);
    let lacks: Vec<Platform> =
        source.files.keys().filter(|platform| !is_there(platform)).cloned().collect();
    if !lacks.is_empty() || details["compromised_key"].is_object() {
        return Ok(Target::Lacks(lacks));
    }
    if details["unpublished"].is_object() {
        notice(format_args!("`{address}` {version} is yanked at `{to_host}`, and stays so"));
    }
    if source.sums != target.sums {
        notice(format_args!(
            "`{to_host}` has the same files with a signature of key {}, which stays",
            target.sums.key_id
        ));
    }
    Ok(Target::Complete)
}

/// Checks that the key of the version can sign at `to`, before large archives are downloaded. `to` then
/// verifies the signature itself.
async fn check_key(
    promotion: &Promotion<ProviderAddress>,
    source: &Release,
) -> Result<(), CommandError> {
    let (to, namespace) = (&promotion.to, &promotion.address.namespace);
    let path = format!("/v1/namespaces/{namespace}/signing-keys");
    let found = spinning("reading the keys", Box::pin(get(to, &path))).await;
    let found: Value = found.and_then(|answer| answer.read()).map_err(at(to))?;
    let key_id = &source.sums.key_id;
    let keys = found["keys"].as_array().into_iter().flatten();
    let state = keys.filter(|key| key["key_id"] == key_id.as_str()).map(|key| &key["state"]);
    let problem = match state.map(|state| state.as_str().unwrap_or_default()).next() {
        Some("active") => return Ok(()),
        Some("retired" | "compromised") => "accepts no new signature of key",
        Some(_) => "cannot use key",
        None => "has not registered key",
    };
    let error = CommandError::refused(format!(
        "`{namespace}` at `{}` {problem} {key_id}, which signed the version",
        to.host()
    ));
    Err(error.hint(format!(
        "register an active key there: `stile-admin provider keys add FILE --namespace {namespace} --registry-host {}`",
        to.host()
    )))
}

/// Downloads archives to temporary files, and verifies each with the signed digests.
async fn download(
    promotion: &Promotion<ProviderAddress>,
    source: &Release,
    platforms: &[Platform],
) -> Result<BTreeMap<Platform, ZipFile>, CommandError> {
    let wanted = platforms.iter().filter_map(|platform| source.files.get_key_value(platform));
    let wanted: Vec<_> =
        wanted.map(|(platform, file)| (platform, &file.sha256, file.bytes)).collect();
    let bar = download_bar(Some(wanted.iter().map(|(.., bytes)| bytes).sum()));
    let bar = &bar;
    let downloading = stream::iter(wanted).map(|(platform, sha256, bytes)| {
        Box::pin(async move {
            let zip = download_one(promotion, platform, (sha256, bytes), bar).await?;
            Ok((platform.clone(), zip))
        })
    });
    let zips = downloading.buffer_unordered(promotion.jobs).try_collect().await;
    bar.finish_and_clear();
    zips
}

async fn download_one(
    promotion: &Promotion<ProviderAddress>,
    platform: &Platform,
    (sha256, bytes): (&str, u64),
    bar: &ProgressBar,
) -> Result<ZipFile, CommandError> {
    let Promotion { address, version, from, .. } = promotion;
    let place = Place::Provider(address.clone(), version.clone(), platform.clone());
    let url = locate(from, &place).await.map_err(at(from))?;
    let opening = Incoming::open(&url, from.environment(), Purpose::Promotion, bytes);
    let incoming = opening.await.map_err(at(from))?;
    let mut file = tempfile::tempfile().map_err(|error| CommandError::unwritable(&error))?;
    let writing = incoming.digest_to(|bytes| {
        bar.inc(bytes.len() as u64);
        file.write_all(bytes).map_err(|error| CommandError::unwritable(&error))
    });
    let found = writing.await.map_err(at(from))?;
    let name = zip_name(&address.provider_type, version, platform);
    if found != sha256 {
        return Err(promotion.changed_on_the_way(&name, &found, sha256));
    }
    file.rewind().map_err(|error| CommandError::unwritable(&error))?;
    let label = name.clone();
    ZipFile::inspect(file, Path::new(&label), name, (&address.provider_type, platform))
}

/// Checks that `to` lists the same files, with the digests that it computed itself. It can show the
/// version as it was a moment ago.
async fn check_listed(
    promotion: &Promotion<ProviderAddress>,
    source: &Release,
) -> Result<(), CommandError> {
    let Promotion { address, version, to, .. } = promotion;
    let mut retry = Retry::default();
    loop {
        let found = release(to, address, version).await?;
        let files = found.as_ref().map(|found| &found.release.files);
        let mut is_complete = true;
        for (platform, own) in &source.files {
            match files.and_then(|files| files.get(platform)) {
                None => is_complete = false,
                Some(file)
                    if (&file.sha256, &file.h1, file.bytes)
                        == (&own.sha256, &own.h1, own.bytes) => {}
                Some(file) => {
                    return Err(not_listed(format_args!(
                        "`{platform}` has the digests {} and {} there, and not {} and {}",
                        file.sha256, file.h1, own.sha256, own.h1
                    )));
                }
            }
        }
        if is_complete {
            return Ok(());
        }
        retry.wait().await.map_err(|_| not_listed("the registry does not list all platforms"))?;
    }
}

/// Prints the result. `sent` are the platforms that `to` lacked.
fn report(
    context: &Context,
    promotion: &Promotion<ProviderAddress>,
    source: &PublishedRelease,
    (status, sent): (&str, &[Platform]),
) -> Result<(), CommandError> {
    let Promotion { address, version, .. } = promotion;
    let ((from, to), release) = (promotion.hosts(), &source.release);
    let (sha256, key_id) = (release.sha256(), &release.sums.key_id);
    let done = if status == "pending" { "would promote" } else { status };
    let mut lines = format!(
        "{done} {address} {version} (sha256sums:{sha256}, key {key_id}) from {from} to {to}"
    );
    let mut files: Vec<Value> = Vec::new();
    for (platform, file) in &release.files {
        let name = zip_name(&address.provider_type, version, platform);
        let is_sent = sent.contains(platform);
        if is_sent && status == "pending" {
            let platform = platform.to_string();
            let _infallible =
                write!(lines, "\n{platform:<15} {:>12}  {}  {name}", file.bytes, file.sha256);
        }
        files.push(json!({
            "platform": platform.to_string(), "name": name, "bytes": file.bytes,
            "sha256": file.sha256, "sent": is_sent,
        }));
    }
    let json = json!({
        "status": status,
        "provider": address.to_string(),
        "version": version.to_string(),
        "from": from,
        "to": to,
        "sha256": sha256,
        "key_id": key_id.as_str(),
        "files": files,
    });
    context.output.outcome(lines, &json)
}
