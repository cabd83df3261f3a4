//! Reads a module: its versions, and where the files of each are.

use serde::Deserialize;
use serde_json::Value;
use stile_protocol::names::ModuleAddress;

use super::{ListedVersion, find, leave_out, versions_of};
use crate::api::Api;
use crate::error::CommandError;
use crate::export::model::{LeftOut, Module, ModuleVersion};
use crate::published::{contents, wrong};

/// The versions document of a module.
#[derive(Deserialize)]
struct Versions {
    modules: Vec<OfModule>,
}

#[derive(Deserialize)]
struct OfModule {
    versions: Vec<ListedVersion>,
}

/// Reads a module. `None` if the registry lists no version of it any more.
pub(super) async fn read(
    api: &Api,
    address: ModuleAddress,
) -> Result<(Option<Module>, Vec<LeftOut>), CommandError> {
    let base = format!("/v1/modules/{address}");
    let listed: Option<Versions> = find(api, &format!("{base}/versions"), &address).await?;
    let listed = listed.into_iter().flat_map(|found| found.modules);
    let listed = listed.flat_map(|module| module.versions).collect();
    let (mut versions, mut left_out) = (Vec::new(), Vec::new());
    for version in versions_of(&address, listed)? {
        let about = format!("{address} {version}");
        let path = format!("{base}/{version}");
        let detail: Option<Value> = find(api, &path, &about).await?;
        let detail = detail.ok_or_else(|| wrong(&about, "the registry lists it and has it not"))?;
        // Its publisher took it back since the list was read.
        if detail["unpublished"].is_object() {
            continue;
        }
        match contents(api, &address, &version, &detail["provenance"]).await? {
            Ok(contents) => versions.push(ModuleVersion { version, contents }),
            Err(why) => left_out.push(leave_out(&address, &version, why)),
        }
    }
    let module = (!versions.is_empty()).then_some(Module { address, versions });
    Ok((module, left_out))
}
