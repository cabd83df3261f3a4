//! `module publish --object`: publishes a version whose archive is an object of an S3 bucket.

use std::ffi::OsString;

use reqwest::Client;
use reqwest::header::CONTENT_TYPE;
use serde::Deserialize;
use serde_json::json;
use stile_core::package::source::ObjectAddress;
use stile_core::package::{Version, is_sha256};
use stile_protocol::names::{ModuleAddress, Permission};
use terraform_credentials_stile::message::one_line;
use terraform_credentials_stile::token::Token;

use super::Context;
use super::module_block::block;
use super::module_send::address_and_version_with;
use crate::api::Api;
use crate::claims;
use crate::cli::ModulePublish;
use crate::direct_upload::COMPLETION_FACTOR;
use crate::error::CommandError;
use crate::output::notice;
use crate::progress::spinning;
use crate::source::named;

/// The broker's response for a version with an object.
#[derive(Deserialize)]
struct Published {
    /// Missing if the version has the same bytes as an archive.
    object: Option<String>,
    sha256: String,
    status: String,
    warnings: Vec<String>,
}

/// Publishes a version with this object. The broker reads the object; this program never does.
pub(super) async fn publish(
    context: &Context,
    args: &ModulePublish,
    object: &str,
    sha256: &str,
) -> Result<(), CommandError> {
    let object = ObjectAddress::parse(object).map_err(|error| {
        CommandError::usage(format!("the value of `--object` is not valid: {error}"))
            .hint("write `s3://BUCKET/KEY`")
    })?;
    let (address, version) = address_and_version(&args.what, &object)?;
    // Some programs print a digest in upper case.
    let sha256 = sha256.to_ascii_lowercase();
    if !is_sha256(&sha256) {
        return Err(CommandError::usage("the value of `--sha256` is not 64 hexadecimal digits")
            .hint("run `sha256sum` with the archive"));
    }
    if args.dry_run {
        let json = json!({
            "status": "pending", "module": address.to_string(), "version": version.to_string(),
            "origin": object.as_str(), "sha256": sha256,
        });
        let lines =
            format_args!("would publish {address} {version} from {object} (sha256:{sha256})");
        return context.output.outcome(lines, &json);
    }
    let api =
        Api::new(&args.api, Permission::Upload, Some(address.namespace.clone()), context.now)?;
    let sent = send(context, &api, &address, &version, (&object, &sha256));
    let published = spinning("waiting until the registry has read the object", Box::pin(sent))
        .await
        .map_err(|error| error.context(format_args!("`{address}` {version} was not published")))?;
    let status = match published.status.as_str() {
        "created" => "published",
        "replaced" => "replaced",
        _ => "unchanged",
    };
    let is_new = status != "unchanged";
    let is_other = match &published.object {
        Some(stored) => stored != object.as_str(),
        None => is_new,
    };
    if published.sha256 != sha256 || is_other {
        return Err(CommandError::failed(format!(
            "the registry stored another object as `{address}` {version}"
        )));
    }
    let warnings: Vec<String> = published.warnings.iter().map(|text| one_line(text)).collect();
    for warning in &warnings {
        notice(warning);
    }
    let here = format!("{}/{address}", api.host());
    let block = block(&address, &here, &version);
    let json = json!({
        "status": status,
        "module": address.to_string(),
        "version": version.to_string(),
        "sha256": sha256,
        // The same bytes can be an archive of the registry.
        "origin": published.object,
        "source": here,
        "warnings": warnings,
    });
    let from = if is_new { format!(" from {object}") } else { String::new() };
    let lines = format_args!("{status} {address} {version}{from} (sha256:{sha256})\n\n{block}");
    context.output.outcome(lines, &json)
}

async fn send(
    context: &Context,
    api: &Api,
    address: &ModuleAddress,
    version: &Version,
    (object, sha256): (&ObjectAddress, &str),
) -> Result<Published, CommandError> {
    let url = api.at(&format!("/v1/modules/{address}/{version}"))?;
    let body = json!({ "object": object.as_str(), "sha256": sha256 }).to_string();
    let request = async |client: &Client, token: &Token| {
        let request = client.post(url.clone()).bearer_auth(token.expose());
        let mut request = request.header(CONTENT_TYPE, "application/json").body(body.clone());
        if let Some(claims) = &context.claims {
            request = request.header(claims::HEADER, claims.header());
        }
        api.send(request.timeout(COMPLETION_FACTOR * api.request_timeout())).await
    };
    api.call(request).await?.read()
}

/// Parses `[ADDRESS VERSION]`. Without them, the name of the object says both.
fn address_and_version(
    words: &[OsString],
    object: &ObjectAddress,
) -> Result<(ModuleAddress, Version), CommandError> {
    match words {
        [] => named(object.key().rsplit('/').next().unwrap_or_default()),
        [address, version] => address_and_version_with("--object", address, version),
        _ => Err(CommandError::usage(
            "with `--object`, there must be an address and a version, and no other word",
        )
        .hint("write `ADDRESS VERSION --object s3://BUCKET/KEY --sha256 HEX`")),
    }
}
