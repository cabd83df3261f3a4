//! `provider publish`: reads a release, signs its list of digests, and publishes it.

use std::fmt::Write as _;

use serde_json::{Value, json};
use stile_core::package::Version;
use stile_core::package::provider::SigningKey;
use stile_protocol::exchange::Namespaces;
use stile_protocol::names::{Permission, Permissions, ProviderAddress};
use stile_store::AwsDeadlines;

use super::Context;
use super::module_block::provider_block;
use super::module_send::version_of;
use super::provider_send::{self, Sent};
use crate::api::Api;
use crate::cli::{KeyFlags, ProviderPublish, key_passphrase};
use crate::error::CommandError;
use crate::output::notice;
use crate::provider::{KeySource, LocalRelease, PassphraseSource, PublisherKey};

/// Publishes the release in a folder.
pub(super) async fn run(context: &Context, args: &ProviderPublish) -> Result<(), CommandError> {
    let address: ProviderAddress = args.address.parse()?;
    let version = version_of(&args.version)?;
    let source = key_source(&args.key, args.api.profile());
    let said = (&args.protocols[..], args.manifest.as_deref());
    let local = LocalRelease::read(&args.folder, &address, &version, said)?;
    local.check_signed(source.is_some())?;
    // A wrong passphrase must be found before the first request.
    let key = match &source {
        Some(source) => Some(load(context, source, deadlines(args)).await?),
        None => None,
    };
    if args.dry_run {
        return show(context, &address, &version, &local, key.as_ref());
    }
    // The program reads what is published, and adds to it.
    let permissions = Permissions::NONE.with(Permission::Upload).with(Permission::Download);
    let namespaces = Namespaces::List(vec![address.namespace.clone()]);
    let api = Api::of_scope(&args.api, namespaces, permissions, context.now)?;
    let sending = provider_send::publish(
        context,
        &api,
        (&address, &version),
        (&local, key.as_ref()),
        usize::from(args.jobs),
    );
    let Sent { status, sha256, key_id, sent } = Box::pin(sending)
        .await
        .map_err(|error| error.context(format_args!("`{address}` {version} was not published")))?;
    let source = format!("{}/{address}", api.host());
    let json = json!({
        "status": status,
        "provider": address.to_string(),
        "version": version.to_string(),
        "sha256": sha256,
        "key_id": key_id,
        "sent": sent,
        "source": source,
    });
    let block = provider_block(&address, &source, &version);
    let lines = format_args!("{status} {address} {version} (sha256sums:{sha256})\n\n{block}");
    context.output.outcome(lines, &json)
}

/// Returns where the key of the flags is.
fn key_source(flags: &KeyFlags, profile: Option<&str>) -> Option<KeySource> {
    if let Some(arn) = &flags.kms_key {
        return Some(KeySource::Kms { arn: arn.clone(), profile: profile.map(str::to_owned) });
    }
    let file = flags.key.clone()?;
    let passphrase = PassphraseSource::new(flags.passphrase_file.clone(), key_passphrase());
    Some(KeySource::File(file, passphrase))
}

fn deadlines(args: &ProviderPublish) -> AwsDeadlines {
    args.api.timeout().map_or_else(AwsDeadlines::default, AwsDeadlines::within)
}

async fn load(
    context: &Context,
    source: &KeySource,
    deadlines: AwsDeadlines,
) -> Result<PublisherKey, CommandError> {
    let key = PublisherKey::load(source, deadlines, context.now).await?;
    warn_of_old_clients(key.public());
    Ok(key)
}

/// Prints a notice if old clients cannot verify with a key.
pub(super) fn warn_of_old_clients(key: &SigningKey) {
    if !key.is_old_client_safe() {
        notice(format_args!(
            "key {} is {}, and clients of before 2022 refuse it; hint: use an RSA key of 4096 bits",
            key.key_id(),
            key.algorithm()
        ));
    }
}

/// Prints what `provider publish` would send.
fn show(
    context: &Context,
    address: &ProviderAddress,
    version: &Version,
    local: &LocalRelease,
    key: Option<&PublisherKey>,
) -> Result<(), CommandError> {
    let protocols: Option<Vec<_>> =
        local.protocols().map(|said| said.iter().map(ToString::to_string).collect());
    let protocol = protocols.as_ref().map_or_else(
        || "protocol of the published version".to_owned(),
        |protocols| format!("protocol {}", protocols.join(", ")),
    );
    let signer = match key {
        Some(key) => {
            format!("signed with key {} ({})", key.public().key_id(), key.public().algorithm())
        }
        None => "with the signature of the folder".to_owned(),
    };
    let archives = match local.zips().len() {
        1 => "1 archive".to_owned(),
        count => format!("{count} archives"),
    };
    let mut lines = format!("would publish {address} {version}: {archives}, {protocol}, {signer}",);
    let mut files: Vec<Value> = Vec::new();
    for (platform, zip) in local.zips() {
        let platform = platform.to_string();
        let _infallible =
            write!(lines, "\n{platform:<15} {:>12}  {}  {}", zip.bytes, zip.sha256, zip.name);
        files.push(json!({
            "platform": platform, "name": zip.name, "from": zip.from,
            "bytes": zip.bytes, "sha256": zip.sha256,
        }));
    }
    let json = json!({
        "status": "pending",
        "provider": address.to_string(),
        "version": version.to_string(),
        "protocols": protocols,
        "key_id": key.map(|key| key.public().key_id().as_str()),
        "files": files,
    });
    context.output.outcome(lines, &json)
}
