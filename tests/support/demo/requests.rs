//! Replaces Terraform if the machine lacks it: sends its requests with the helper's token, and
//! unpacks the archive.

use std::io::Cursor;

use reqwest::{RequestBuilder, Response};
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use super::play::{MODULE, Play, VERSION};
use super::show::{End, Failed};
use crate::process::programs::HELPER;

/// Installs the module without Terraform.
pub(super) async fn install(play: &mut Play) -> Result<(), Failed> {
    play.show
        .step("Terraform is not on PATH, so the demo sends its requests: it gets a token, asks for the module, and checks the archive");
    let host = play.stage.host();
    let asked = play.deploy(HELPER, &["get", &host], End::Done).await?;
    let printed: Value = serde_json::from_str(&asked.stdout).unwrap_or_default();
    let token = printed["token"]
        .as_str()
        .ok_or_else(|| Failed::new("the helper printed no token"))?
        .to_owned();

    let discovery: Value = json(get(play, "/.well-known/terraform.json", None).await?).await?;
    let base = discovery["modules.v1"]
        .as_str()
        .ok_or_else(|| Failed::new("the registry's discovery document names no module protocol"))?
        .to_owned();
    let versions: Value =
        json(get(play, &format!("{base}{MODULE}/versions"), Some(&token)).await?).await?;
    let listed = versions["modules"][0]["versions"]
        .as_array()
        .is_some_and(|all| all.iter().any(|one| one["version"] == VERSION));
    if !listed {
        return Err(Failed::new(format!("the registry does not list `{MODULE}` {VERSION}")));
    }
    let answer = get(play, &format!("{base}{MODULE}/{VERSION}/download"), Some(&token)).await?;
    let location = answer
        .headers()
        .get("x-terraform-get")
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default()
        .to_owned();
    let path = location
        .strip_prefix(&play.broker.url(""))
        .ok_or_else(|| Failed::new("the signed URL is not at the registry's host"))?;
    let archive = get(play, path, None).await?.bytes().await.map_err(|error| down(&error))?;
    let digest = hex::encode(Sha256::digest(&archive));
    if !location.contains(&format!("checksum=sha256:{digest}&")) {
        return Err(Failed::new("the archive does not have the checksum in its signed URL"));
    }
    play.show.note(&format!("the archive has the checksum in its signed URL: sha256:{digest}"));
    let folder = play.stage.configuration().join(".terraform/modules/tags");
    let unpacked =
        zip::ZipArchive::new(Cursor::new(archive)).and_then(|mut archive| archive.extract(&folder));
    unpacked.map_err(|error| Failed::new(format!("the archive cannot be unpacked: {error}")))
}

async fn get(play: &Play, path: &str, token: Option<&str>) -> Result<Response, Failed> {
    let request = play.broker.client().get(play.broker.url(path));
    let answer = token
        .into_iter()
        .fold(request, RequestBuilder::bearer_auth)
        .send()
        .await
        .map_err(|error| down(&error))?;
    let shown = path.split('?').next().unwrap_or_default();
    play.show.note(&format!("GET {shown}: {}", answer.status()));
    if answer.status().is_success() {
        Ok(answer)
    } else {
        Err(Failed::new(format!("the registry refused `{shown}`")))
    }
}

async fn json(answer: Response) -> Result<Value, Failed> {
    let text = answer.text().await.map_err(|error| down(&error))?;
    serde_json::from_str(&text).map_err(|_| Failed::new("the registry's answer is not JSON"))
}

fn down(error: &reqwest::Error) -> Failed {
    Failed::new(format!("the broker did not answer: {error}"))
}
