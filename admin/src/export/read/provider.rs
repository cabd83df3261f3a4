//! Reads a provider: its versions, their signed digests, and the keys that verify them.

use serde::Deserialize;
use stile_protocol::names::ProviderAddress;

use super::{ListedVersion, find, leave_out, versions_of, with_hint};
use crate::api::Api;
use crate::error::CommandError;
use crate::export::model::{LeftOut, Provider, ProviderVersion};
use crate::published::{keys, release, wrong};

/// The versions document of a provider.
#[derive(Deserialize)]
struct Versions {
    versions: Vec<ListedVersion>,
    #[serde(default)]
    warnings: Option<Vec<String>>,
}

/// Reads a provider. `None` if the registry lists no version of it any more.
pub(super) async fn read(
    api: &Api,
    address: ProviderAddress,
) -> Result<(Option<Provider>, Vec<LeftOut>), CommandError> {
    let base = format!("/v1/providers/{address}");
    let listed: Option<Versions> = find(api, &format!("{base}/versions"), &address).await?;
    let Some(listed) = listed else { return Ok((None, Vec::new())) };
    let (mut versions, mut left_out) = (Vec::new(), Vec::new());
    for version in versions_of(&address, listed.versions)? {
        let about = format!("{address} {version}");
        let found = release(api, &address, &version).await.map_err(with_hint)?;
        let found = found.ok_or_else(|| wrong(&about, "the registry lists it and has it not"))?;
        let release = found.release;
        match keys(api, &address, &version, &release).await? {
            Ok(keys) => versions.push(ProviderVersion { version, release, keys }),
            Err(why) => left_out.push(LeftOut {
                distrusted: Some(address.clone()),
                ..leave_out(&address, &version, why)
            }),
        }
    }
    let warnings = warnings(&address, &versions, listed.warnings.unwrap_or_default());
    let provider = (!versions.is_empty()).then_some(Provider { address, versions, warnings });
    Ok((provider, left_out))
}

/// Returns the warnings about versions that the export has, and the number of further ones.
///
/// The registry also warns the caller about its own grant. That is not for the users of the export.
fn warnings(
    address: &ProviderAddress,
    versions: &[ProviderVersion],
    warnings: Vec<String>,
) -> Vec<String> {
    let starts: Vec<String> =
        versions.iter().map(|of| format!("{address} {} ", of.version)).collect();
    let is_ours = |warning: &String| {
        let more = warning.strip_prefix("and ").and_then(|rest| rest.strip_suffix(" more"));
        starts.iter().any(|start| warning.starts_with(start))
            || more.is_some_and(|number| number.parse::<u32>().is_ok())
    };
    warnings.into_iter().filter(is_ours).collect()
}
