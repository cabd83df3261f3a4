//! Downloads the archives of an export, and verifies each while it is written.

use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use reqwest::header::HeaderMap;
use reqwest::{Method, Url};
use serde::Deserialize;
use sha2::{Digest as _, Sha256};
use stile_core::package::Version;
use stile_protocol::names::ModuleAddress;

use super::folder::Folder;
use super::path::TreePath;
use super::plan::{Place, Plan, WantedFile};
use crate::api::Api;
use crate::error::CommandError;
use crate::fetch::{Incoming, Purpose};
use crate::progress::download_bar;

/// The number of archives that it downloads at the same time.
const AT_ONCE: usize = 4;

/// What became of the archives.
#[derive(Debug, Default)]
pub(crate) struct Fetched {
    /// The archives that are new, in a dry run those that would be.
    pub(crate) written: Vec<TreePath>,
    /// The number of archives that the export had already.
    pub(crate) unchanged: usize,
    /// The size of the new archives in bytes.
    pub(crate) bytes: u64,
    /// The modules that their publishers made unreadable, and why.
    pub(crate) unreadable: Vec<(ModuleAddress, Version, String)>,
}

/// Downloads the archives that the folder does not have. In a dry run, it only counts them.
pub(crate) async fn fetch(
    api: &Api,
    folder: &Folder,
    plan: &Plan,
    dry_run: bool,
) -> Result<Fetched, CommandError> {
    let (mut fetched, mut missing) = (Fetched::default(), Vec::new());
    for file in plan.archives() {
        if folder.has(&file.path, &file.sha256).await? {
            fetched.unchanged += 1;
        } else {
            missing.push(file);
        }
    }
    let bar = download_bar(Some(missing.iter().map(|file| file.bytes).sum()));
    let bar = &bar;
    let fetching = stream::iter(missing).map(|file| {
        Box::pin(async move {
            let done = match dry_run {
                true => Ok(Ok(())),
                false => one(api, folder, &file, |bytes| bar.inc(bytes)).await,
            };
            done.map(|done| (file, done))
        })
    });
    let done: Vec<_> = fetching.buffer_unordered(AT_ONCE).try_collect().await?;
    bar.finish_and_clear();
    for (file, done) in done {
        match (done, file.place) {
            (Ok(()), _) => {
                fetched.bytes += file.bytes;
                fetched.written.push(file.path);
            }
            (Err(why), Place::Object(address, version)) => {
                let sentence = format!("{address} {version} is left out: {why}");
                fetched.unreadable.push((address, version, sentence));
            }
            (Err(why), _) => return Err(CommandError::refused(why)),
        }
    }
    fetched.written.sort();
    Ok(fetched)
}

/// Downloads one archive. The inner error says why nobody can read an object of a publisher.
async fn one(
    api: &Api,
    folder: &Folder,
    file: &WantedFile,
    on_bytes: impl Fn(u64),
) -> Result<Result<(), String>, CommandError> {
    let is_object = matches!(file.place, Place::Object(..));
    let left_out = |error: CommandError| match is_object && error.is_refusal() {
        true => Ok(Err(error.message().to_owned())),
        false => Err(error),
    };
    let url = match locate(api, &file.place).await {
        Ok(url) => url,
        Err(error) => return left_out(error),
    };
    let opened = Incoming::open(&url, api.environment(), Purpose::Export, file.bytes).await;
    let mut incoming = match opened {
        Ok(incoming) => incoming,
        Err(error) => return left_out(error),
    };
    let (mut partial, mut digest) = (folder.begin(&file.path)?, Sha256::new());
    while let Some(bytes) = incoming.next().await? {
        digest.update(&bytes);
        partial.write(&bytes)?;
        on_bytes(bytes.len() as u64);
    }
    let found = hex::encode(digest.finalize());
    if found != file.sha256 {
        return Err(CommandError::failed(format!(
            "`{}` has the SHA-256 {found}, and the registry says {}",
            file.path, file.sha256
        ))
        .hint("nothing of it is in the export; run the command again, and ask the operator of the registry if the error stays"));
    }
    partial.finish()?;
    Ok(Ok(()))
}

/// The part of a provider's download document that has the URL.
#[derive(Deserialize)]
struct Download {
    download_url: String,
}

/// Asks the registry for the URL of an archive.
async fn locate(api: &Api, place: &Place) -> Result<Url, CommandError> {
    let (path, about) = match place {
        Place::Provider(address, version, platform) => {
            let (os, arch) = (platform.os(), platform.arch());
            let path = format!("/v1/providers/{address}/{version}/download/{os}/{arch}");
            (path, format!("{address} {version}"))
        }
        Place::Module(address, version) | Place::Object(address, version) => {
            (format!("/v1/modules/{address}/{version}/download"), format!("{address} {version}"))
        }
    };
    let url = api.at(&path)?;
    let answer = api.send_json(&Method::GET, &url, &HeaderMap::new(), None).await;
    let answer = answer.map_err(|error| error.about(&about))?;
    answer.check().map_err(|error| error.about(&about))?;
    let location = match place {
        Place::Provider(..) => answer.read::<Download>()?.download_url,
        Place::Module(..) | Place::Object(..) => {
            answer.header("x-terraform-get").unwrap_or_default().to_owned()
        }
    };
    let located = url.join(&location).ok().filter(|_| !location.is_empty());
    let located = located.ok_or_else(|| {
        CommandError::failed(format!("`{about}`: the registry sent no URL of the archive"))
    })?;
    api.check_url(&located)?;
    Ok(as_fetched(located))
}

/// Removes from a URL what is for the client and not for the server, as Terraform does. The signature of
/// the URL does not cover it.
fn as_fetched(mut url: Url) -> Url {
    const FOR_CLIENTS: [&str; 3] = ["archive", "checksum", "filename"];
    let Some(query) = url.query().map(str::to_owned) else { return url };
    let is_for_server =
        |pair: &&str| !FOR_CLIENTS.contains(&pair.split('=').next().unwrap_or_default());
    let left: Vec<&str> = query.split('&').filter(is_for_server).collect();
    url.set_query((!left.is_empty()).then(|| left.join("&")).as_deref());
    url
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_loses_what_is_for_the_client_and_stays_otherwise_as_it_is_signed() {
        for (url, expected) in [
            ("https://a.example/x.zip", "https://a.example/x.zip"),
            ("https://a.example/x?archive=zip", "https://a.example/x"),
            (
                "https://a.example/x?b=2%2F+%20&archive=zip&a=1&checksum=sha256:00&filename=y",
                "https://a.example/x?b=2%2F+%20&a=1",
            ),
        ] {
            assert_eq!(as_fetched(Url::parse(url).unwrap()).as_str(), expected);
        }
    }
}
