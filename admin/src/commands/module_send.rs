//! Sends an archive to the registry, and checks that the registry stored the same bytes. It also has
//! what publishing one module and several modules have in common.

use std::ffi::OsStr;

use reqwest::Client;
use serde::Deserialize;
use serde_json::{Value, json};
use stile_core::package::{MAX_IN_ANY_EVENT, Version};
use stile_protocol::names::ModuleAddress;
use terraform_credentials_stile::message::one_line;
use terraform_credentials_stile::token::Token;

use super::Context;
use crate::api::{Api, ApiResponse};
use crate::claims;
use crate::direct_upload::{self, UploadRoute};
use crate::error::CommandError;
use crate::pack::Pattern;
use crate::source::is_url;
use crate::upload::Archive;

/// The broker's response for a published version.
#[derive(Deserialize)]
struct Published {
    sha256: String,
    status: String,
    /// What of the module's metadata the registry could not read. Earlier releases read none.
    #[serde(default)]
    warnings: Vec<String>,
}

/// The result of sending an archive.
pub(super) struct Sent {
    /// `published`, or `unchanged` if the same bytes were published before.
    pub(super) status: &'static str,
    /// What of the module's metadata the registry could not read, one line each.
    pub(super) warnings: Vec<String>,
}

/// Publishes an archive.
///
/// # Errors
///
/// [`CommandError`], which names the module and the version.
pub(super) async fn publish_archive(
    context: &Context,
    api: &Api,
    address: &ModuleAddress,
    version: &Version,
    archive: &Archive,
) -> Result<Sent, CommandError> {
    let published: Published = send(context, api, address, version, archive)
        .await
        .and_then(|answer| answer.read())
        .map_err(|error| error.context(format_args!("`{address}` {version} was not published")))?;
    if published.sha256 != archive.sha256() {
        return Err(CommandError::failed(format!(
            "the registry stored different bytes than the sent archive as `{address}` {version}"
        )));
    }
    let status = if published.status == "unchanged" { "unchanged" } else { "published" };
    Ok(Sent { status, warnings: published.warnings.iter().map(|text| one_line(text)).collect() })
}

/// Returns the JSON of an archive that a dry run does not send.
pub(super) fn pending(address: &ModuleAddress, version: &Version, archive: &Archive) -> Value {
    let files = archive.files().iter();
    let files = files.map(|file| json!({ "path": file.path, "bytes": file.bytes }));
    json!({
        "status": "pending",
        "module": address.to_string(),
        "version": version.to_string(),
        "sha256": archive.sha256(),
        "bytes": archive.bytes(),
        "files": files.collect::<Vec<_>>(),
        "skipped": archive.skipped(),
    })
}

/// Parses a version that the user typed.
pub(super) fn version_of(text: &str) -> Result<Version, CommandError> {
    Version::parse(text).map_err(|error| CommandError::usage(error.to_string()))
}

/// Parses the words `ADDRESS VERSION` of a command with a flag that says where the files are.
///
/// Errors about an address and a version show these words, and a URL can be a secret. So a URL is
/// refused without its text.
pub(super) fn address_and_version_with(
    flag: &str,
    address: &OsStr,
    version: &OsStr,
) -> Result<(ModuleAddress, Version), CommandError> {
    if is_url(address) || is_url(version) {
        return Err(CommandError::usage(format!("a URL can only be the value of `{flag}`"))
            .hint(format!("write `ADDRESS VERSION {flag} …`")));
    }
    Ok((address.to_string_lossy().parse()?, version_of(&version.to_string_lossy())?))
}

/// Parses the patterns of `--include`.
pub(super) fn patterns(texts: &[String]) -> Result<Vec<Pattern>, CommandError> {
    let parse = |text: &String| {
        Pattern::parse(text).map_err(|problem| {
            CommandError::usage(format!("the pattern `{text}` of `--include` {problem}"))
        })
    };
    texts.iter().map(parse).collect()
}

/// Sends an archive: directly to the registry if every front accepts the size, or else by the route
/// that the registry selects.
async fn send(
    context: &Context,
    api: &Api,
    address: &ModuleAddress,
    version: &Version,
    archive: &Archive,
) -> Result<ApiResponse, CommandError> {
    let path = format!("/v1/modules/{address}/{version}");
    let claims = context.claims.as_ref();
    if archive.bytes() > MAX_IN_ANY_EVENT {
        match direct_upload::announce(api, &path, archive, claims).await? {
            UploadRoute::Published(answer) => return Ok(answer),
            UploadRoute::ToBucket(upload) => {
                return direct_upload::send(api, &path, archive, &upload).await;
            }
            UploadRoute::ThroughRegistry => {}
        }
    }
    let url = api.at(&path)?;
    api.call(async |client: &Client, token: &Token| {
        let mut request = client.post(url.clone()).bearer_auth(token.expose());
        if let Some(claims) = claims {
            request = request.header(claims::HEADER, claims.header());
        }
        archive.post(api, request).await
    })
    .await
}
