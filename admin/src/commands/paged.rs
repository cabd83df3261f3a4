//! Reads every page of a list of packages.

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::api::Api;
use crate::error::CommandError;

/// One page of a list. The name of the list is the kind of its packages.
#[derive(Deserialize)]
struct PackagePage {
    meta: Meta,
    #[serde(flatten)]
    lists: serde_json::Map<String, Value>,
}

#[derive(Deserialize)]
struct Meta {
    next_offset: Option<u64>,
}

/// Reads every page of the list with this name. It stops if the offset does not increase, to prevent an
/// endless loop.
pub(super) async fn pages<T: DeserializeOwned>(
    api: &Api,
    path: &str,
    name: &str,
) -> Result<Vec<T>, CommandError> {
    let unexpected = || CommandError::failed("the registry sent an unexpected response");
    let (mut found, mut offset) = (Vec::new(), 0);
    loop {
        let mut page: PackagePage = api.read(&format!("{path}?offset={offset}")).await?;
        let listed = page.lists.remove(name).ok_or_else(unexpected)?;
        found.extend(serde_json::from_value::<Vec<T>>(listed).map_err(|_| unexpected())?);
        match page.meta.next_offset {
            Some(next) if next > offset => offset = next,
            _ => return Ok(found),
        }
    }
}
