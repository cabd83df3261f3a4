//! `provider keys`: the keys whose signatures a namespace accepts.

use std::fmt::Write as _;
use std::time::Duration;

use reqwest::Method;
use reqwest::header::HeaderMap;
use serde::Deserialize;
use serde_json::{Value, json};
use stile_core::package::provider::{MAX_ARMOR, SigningKey};
use stile_protocol::names::{Namespace, Permission};
use stile_store::AwsDeadlines;
use terraform_credentials_stile::message::one_line;

use super::Context;
use super::page::text;
use super::provider_publish::warn_of_old_clients;
use crate::api::{Api, ApiResponse};
use crate::cli::{
    ProviderKeys, ProviderKeysAdd, ProviderKeysExport, ProviderKeysRetire, ProviderKeysVerb,
};
use crate::error::CommandError;
use crate::progress::spinning;
use crate::provider::{KmsKey, read_small};

/// The response to a retirement.
#[derive(Deserialize)]
struct Retired {
    status: String,
    /// The versions that no client gets until they are signed again.
    #[serde(default)]
    versions: Vec<String>,
}

/// Runs one subcommand.
pub(super) async fn run(context: &Context, verb: ProviderKeysVerb) -> Result<(), CommandError> {
    match verb {
        ProviderKeysVerb::Add(args) => add(context, &args).await,
        ProviderKeysVerb::List(args) => list(context, &args).await,
        ProviderKeysVerb::Retire(args) => retire(context, &args).await,
        ProviderKeysVerb::Export(args) => export(context, &args).await,
    }
}

/// Sends a request for the keys of a namespace.
async fn call(
    context: &Context,
    keys: &ProviderKeys,
    permission: Permission,
    (method, below, body): (Method, &str, Option<&Value>),
) -> Result<ApiResponse, CommandError> {
    let namespace = Namespace::parse(&keys.namespace)?;
    let api = Api::new(&keys.api, permission, Some(namespace.clone()), context.now)?;
    let url = api.at(&format!("/v1/namespaces/{namespace}/signing-keys{below}"))?;
    let headers = HeaderMap::new();
    let sending = api.send_json(&method, &url, &headers, body);
    spinning("waiting for the registry", Box::pin(sending)).await
}

async fn add(context: &Context, args: &ProviderKeysAdd) -> Result<(), CommandError> {
    let shown = one_line(&args.file.to_string_lossy());
    let armor = String::from_utf8(read_small(&args.file, MAX_ARMOR)?)
        .map_err(|_| CommandError::refused(format!("`{shown}` is not an armored public key")))?;
    // The registry makes the same checks. A private key must not leave this machine.
    let key = SigningKey::parse(&armor, context.now)
        .map_err(|error| CommandError::refused(format!("`{shown}` cannot be added: {error}")))?;
    warn_of_old_clients(&key);
    let body = json!({ "ascii_armor": key.armor() });
    let answer =
        call(context, &args.keys, Permission::CreateGrant, (Method::POST, "", Some(&body))).await?;
    let namespace = &args.keys.namespace;
    let (id, algorithm) = (key.key_id(), key.algorithm());
    answer
        .check()
        .map_err(|error| error.context(format_args!("key {id} was not added to `{namespace}`")))?;
    // The registry renews a key that has another date of expiry now.
    let reply: Value = answer.read().unwrap_or_default();
    let status = match reply["status"].as_str() {
        Some("unchanged") => "unchanged",
        Some("renewed") => "renewed",
        _ => "added",
    };
    let json = json!({
        "status": status, "namespace": namespace, "key_id": id.as_str(),
        "fingerprint": key.fingerprint(), "algorithm": algorithm, "user_id": key.user_id(),
    });
    let user = one_line(key.user_id());
    let lines = format_args!("{status} key {id} ({algorithm}, {user}) of {namespace}");
    context.output.outcome(lines, &json)
}

async fn list(context: &Context, args: &ProviderKeys) -> Result<(), CommandError> {
    let call = call(context, args, Permission::Upload, (Method::GET, "", None)).await;
    let found: Value = call?.read()?;
    let keys = found["keys"].as_array().cloned().unwrap_or_default();
    let fields = ["key_id", "state", "algorithm", "user_id", "expires_at", "added_at"];
    let rows: Vec<Vec<String>> =
        keys.iter().map(|key| fields.iter().map(|field| text(&key[field])).collect()).collect();
    let header = ["key", "state", "algorithm", "user id", "expires at", "added at"];
    context.output.rows("keys", &header, &rows, &keys.into())
}

async fn retire(context: &Context, args: &ProviderKeysRetire) -> Result<(), CommandError> {
    let (id, namespace) = (&args.key_id, &args.keys.namespace);
    let query = if args.compromised { "?compromised=true" } else { "" };
    let below = format!("/{id}{query}");
    let answer =
        call(context, &args.keys, Permission::CreateGrant, (Method::DELETE, &below, None)).await?;
    let Retired { status, versions } = answer.read().map_err(|error| {
        error.context(format_args!("key {id} of `{namespace}` was not retired"))
    })?;
    let status = match status.as_str() {
        "unchanged" => "unchanged",
        _ => "retired",
    };
    let json = json!({
        "status": status, "namespace": namespace, "key_id": id.as_str(),
        "compromised": args.compromised, "versions": versions,
    });
    let mut lines = format!("{status} key {id} of {namespace}");
    if args.compromised && !versions.is_empty() {
        lines.push_str(
            "\nclients do not get these versions until you publish each with another key:",
        );
        for version in &versions {
            let _infallible = write!(lines, "\n  {}", one_line(version));
        }
    }
    context.output.outcome(lines, &json)
}

async fn export(context: &Context, args: &ProviderKeysExport) -> Result<(), CommandError> {
    let timeout = args.timeout.map(Duration::from_secs);
    let deadlines = timeout.map_or_else(AwsDeadlines::default, AwsDeadlines::within);
    let profile = args.profile.as_deref();
    let loading = KmsKey::load(&args.kms_key, profile, deadlines, context.now);
    let key = spinning("waiting for KMS", Box::pin(loading)).await?;
    let public = key.public();
    let json = json!({
        "key_id": public.key_id().as_str(), "fingerprint": public.fingerprint(),
        "algorithm": public.algorithm(), "user_id": public.user_id(), "ascii_armor": public.armor(),
    });
    context.output.outcome(public.armor().trim_end(), &json)
}
