//! Asks a registry where it has an archive.

use reqwest::Url;
use serde::Deserialize;
use stile_core::package::Version;
use stile_core::package::provider::Platform;
use stile_protocol::names::{ModuleAddress, ProviderAddress};

use super::get;
use crate::api::Api;
use crate::error::CommandError;

/// Where the registry has an archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Place {
    /// The file of a provider's platform.
    Provider(ProviderAddress, Version, Platform),
    /// The archive of a module.
    Module(ModuleAddress, Version),
    /// The archive of a module in a bucket of its publisher.
    Object(ModuleAddress, Version),
}

/// The part of a provider's download document that has the URL.
#[derive(Deserialize)]
struct Download {
    download_url: String,
}

/// Asks the registry for the URL of an archive. Its query is a secret.
///
/// # Errors
///
/// [`CommandError`], if the registry refuses or is down, or if the URL is not `https`.
pub(crate) async fn locate(api: &Api, place: &Place) -> Result<Url, CommandError> {
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
    let answer = get(api, &path).await.map_err(|error| error.about(&about))?;
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
