//! `module publish --source`: publishes a version whose files are at another server.

use std::ffi::OsString;

use reqwest::Client;
use reqwest::header::CONTENT_TYPE;
use serde::Deserialize;
use serde_json::json;
use stile_core::package::Version;
use stile_core::package::source::ModuleSource;
use stile_protocol::names::{ModuleAddress, Permission};
use terraform_credentials_stile::token::Token;

use super::Context;
use super::module_block::block;
use super::module_send::address_and_version_with;
use crate::api::Api;
use crate::claims;
use crate::cli::ModulePublish;
use crate::error::CommandError;
use crate::git;
use crate::progress::spinning;

/// The broker's response for a version with a source.
#[derive(Deserialize)]
struct Published {
    source: String,
    status: String,
}

/// Publishes a version with this source.
///
/// The broker never reads the source. So this program finds out the commit of a tag or a branch, and
/// publishes that, unless the publisher keeps the reference.
pub(super) async fn publish(
    context: &Context,
    args: &ModulePublish,
    text: &str,
) -> Result<(), CommandError> {
    let (address, version) = address_and_version(&args.what)?;
    // The text can contain a password, so no error repeats it.
    let source = ModuleSource::parse(text).map_err(|error| {
        CommandError::usage(format!("the value of `--source` is not valid: {error}"))
    })?;
    let source = if args.keep_ref {
        source
    } else {
        spinning("asking the repository for the commit", git::at_commit(source)).await?
    };
    if args.dry_run {
        let json = json!({
            "status": "pending", "module": address.to_string(), "version": version.to_string(),
            "source": source.as_str(),
        });
        let lines = format_args!("would publish {address} {version} from {source}");
        return context.output.outcome(lines, &json);
    }
    let api =
        Api::new(&args.api, Permission::Upload, Some(address.namespace.clone()), context.now)?;
    let published = send(context, &api, &address, &version, &source)
        .await
        .map_err(|error| error.context(format_args!("`{address}` {version} was not published")))?;
    if published.source != source.as_str() {
        return Err(CommandError::failed(format!(
            "the registry stored another source as `{address}` {version}"
        )));
    }
    let status = if published.status == "unchanged" { "unchanged" } else { "published" };
    let here = format!("{}/{address}", api.host());
    let block = block(&address, &here, &version);
    let json = json!({
        "status": status,
        "module": address.to_string(),
        "version": version.to_string(),
        "origin": source.as_str(),
        "source": here,
    });
    let lines = format_args!("{status} {address} {version} from {source}\n\n{block}");
    context.output.outcome(lines, &json)
}

async fn send(
    context: &Context,
    api: &Api,
    address: &ModuleAddress,
    version: &Version,
    source: &ModuleSource,
) -> Result<Published, CommandError> {
    let url = api.at(&format!("/v1/modules/{address}/{version}"))?;
    let body = json!({ "source": source.as_str() }).to_string();
    let request = async |client: &Client, token: &Token| {
        let request = client.post(url.clone()).bearer_auth(token.expose());
        let mut request = request.header(CONTENT_TYPE, "application/json").body(body.clone());
        if let Some(claims) = &context.claims {
            request = request.header(claims::HEADER, claims.header());
        }
        api.send(request.timeout(api.request_timeout())).await
    };
    api.call(request).await?.read()
}

/// Parses `ADDRESS VERSION`.
fn address_and_version(words: &[OsString]) -> Result<(ModuleAddress, Version), CommandError> {
    let [address, version] = words else {
        return Err(CommandError::usage(
            "with `--source`, an address and a version are needed, and no other word",
        )
        .hint("write `ADDRESS VERSION --source SOURCE`"));
    };
    address_and_version_with("--source", address, version)
}
