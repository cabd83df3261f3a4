//! Reads every page of a list of packages.

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::api::Api;
use crate::error::CommandError;

/// The most packages of a list. It stops a hostile registry whose list never ends.
const MAX_PACKAGES: usize = 100_000;

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

/// Reads every page of the list with this name, such as `modules`.
///
/// It stops if the offset does not increase, to prevent an endless loop.
pub(crate) async fn pages<T: DeserializeOwned>(
    api: &Api,
    path: &str,
    name: &str,
) -> Result<Vec<T>, CommandError> {
    let unexpected = || CommandError::failed("the registry sent an unexpected response");
    let (mut found, mut offset) = (Vec::new(), 0);
    loop {
        let path = format!("{path}?offset={offset}");
        // The type of this future is deep, and the compiler limits the depth.
        let mut page: PackagePage = Box::pin(api.read(&path)).await?;
        let listed = page.lists.remove(name).ok_or_else(unexpected)?;
        found.extend(serde_json::from_value::<Vec<T>>(listed).map_err(|_| unexpected())?);
        if found.len() > MAX_PACKAGES {
            let message = format!("the registry lists more than {MAX_PACKAGES} {name}");
            return Err(CommandError::failed(message).hint("name one namespace"));
        }
        match page.meta.next_offset {
            Some(next) if next > offset => offset = next,
            _ => return Ok(found),
        }
    }
}
