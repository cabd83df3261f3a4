//! Reads through the API what a registry has. Nothing of an answer becomes a path before it is parsed.

mod module;
mod provider;

use std::collections::BTreeSet;
use std::fmt::Display;

use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use stile_core::package::Version;
use stile_protocol::names::{ModuleAddress, NameError, Namespace, ProviderAddress};

use super::model::{Catalogue, LeftOut};
use super::path::Owner;
use crate::api::Api;
use crate::error::CommandError;
use crate::output::notice;
use crate::paged::pages;
use crate::published::{self, get, wrong};

/// The number of packages that it reads at the same time.
const AT_ONCE: usize = 4;

/// Reads the packages of these namespaces, or of all if there is none.
///
/// `known` has the packages that the export has already. A list can lose one of them while it is read,
/// so the registry is asked for each before it leaves the index.
pub(crate) async fn read<'a>(
    api: &Api,
    namespaces: &[Namespace],
    known: impl Iterator<Item = &'a Owner>,
) -> Result<Catalogue, CommandError> {
    // Several requests at once would each get a token of their own.
    api.authenticate().await?;
    let selected = |namespace: &Namespace| namespaces.is_empty() || namespaces.contains(namespace);
    let (mut providers, mut modules) = (BTreeSet::new(), BTreeSet::new());
    for owner in known {
        match owner {
            Owner::Provider { address, .. } if selected(&address.namespace) => {
                providers.insert(address.clone());
            }
            Owner::Module { address, .. } if selected(&address.namespace) => {
                modules.insert(address.clone());
            }
            _ => {}
        }
    }
    if has_providers(api).await? {
        for address in list(api, "providers", namespaces).await? {
            providers.insert(provider_address(&address, &selected)?);
        }
    } else if providers.is_empty() {
        notice("the registry has no providers: its release is too old for them");
    } else {
        return Err(CommandError::failed("the export has providers, and the registry has none")
            .hint("check that the registry runs the latest release"));
    }
    for address in list(api, "modules", namespaces).await? {
        modules.insert(module_address(&address, &selected)?);
    }
    let mut found = Catalogue::default();
    let reading = stream::iter(providers).map(|address| Box::pin(provider::read(api, address)));
    let read: Vec<_> = reading.buffered(AT_ONCE).try_collect().await?;
    for (provider, left_out) in read {
        found.providers.extend(provider);
        found.left_out.extend(left_out);
    }
    let reading = stream::iter(modules).map(|address| Box::pin(module::read(api, address)));
    let read: Vec<_> = reading.buffered(AT_ONCE).try_collect().await?;
    for (module, left_out) in read {
        found.modules.extend(module);
        found.left_out.extend(left_out);
    }
    Ok(found)
}

/// The services of the registry.
#[derive(Deserialize)]
struct Discovery {
    #[serde(rename = "providers.v1", default)]
    providers: Option<String>,
}

async fn has_providers(api: &Api) -> Result<bool, CommandError> {
    let found: Discovery = get(api, "/.well-known/terraform.json").await?.read()?;
    Ok(found.providers.is_some())
}

/// A package as the lists show it.
#[derive(Deserialize)]
struct Listed {
    namespace: String,
    /// The name of a module.
    #[serde(default)]
    name: String,
    /// The system of a module.
    #[serde(default)]
    provider: String,
    /// The type of a provider.
    #[serde(default, rename = "type")]
    provider_type: String,
}

/// Reads every page of the packages of a kind.
async fn list(
    api: &Api,
    kind: &str,
    namespaces: &[Namespace],
) -> Result<Vec<Listed>, CommandError> {
    let paths = match namespaces {
        [] => vec![format!("/v1/{kind}")],
        some => some.iter().map(|namespace| format!("/v1/{kind}/{namespace}")).collect(),
    };
    let mut found = Vec::new();
    for path in paths {
        let listed = pages::<Listed>(api, &path, kind).await;
        found.extend(listed.map_err(|error| error.context(format_args!("the list of {kind}")))?);
    }
    Ok(found)
}

fn provider_address(
    listed: &Listed,
    selected: &impl Fn(&Namespace) -> bool,
) -> Result<ProviderAddress, CommandError> {
    let Listed { namespace, provider_type, .. } = listed;
    let address = format!("{namespace}/{provider_type}").parse::<ProviderAddress>();
    let address = address.map_err(|error| bad_name(&error))?;
    if selected(&address.namespace) { Ok(address) } else { Err(unselected(&address)) }
}

fn module_address(
    listed: &Listed,
    selected: &impl Fn(&Namespace) -> bool,
) -> Result<ModuleAddress, CommandError> {
    let Listed { namespace, name, provider, .. } = listed;
    let address = format!("{namespace}/{name}/{provider}").parse::<ModuleAddress>();
    let address = address.map_err(|error| bad_name(&error))?;
    if selected(&address.namespace) { Ok(address) } else { Err(unselected(&address)) }
}

fn bad_name(error: &NameError) -> CommandError {
    CommandError::failed(format!("the registry sent a name that is not valid: {error}"))
}

fn unselected(address: &dyn Display) -> CommandError {
    CommandError::failed(format!("the registry listed `{address}`, which is in another namespace"))
}

/// A version in a versions document.
#[derive(Deserialize)]
struct ListedVersion {
    version: String,
}

/// Parses the versions of a package, in order and each once.
fn versions_of(
    address: &dyn Display,
    listed: Vec<ListedVersion>,
) -> Result<BTreeSet<Version>, CommandError> {
    let parse = |listed: ListedVersion| {
        Version::parse(&listed.version)
            .map_err(|error| wrong(address, format_args!("the registry sent a bad name: {error}")))
    };
    listed.into_iter().map(parse).collect()
}

/// Sends a GET request, and parses the response. `None` if there is no such object.
async fn find<T: DeserializeOwned>(
    api: &Api,
    path: &str,
    about: &dyn Display,
) -> Result<Option<T>, CommandError> {
    published::find(api, path, about).await.map_err(with_hint)
}

/// Adds to a refusal what the user can do.
fn with_hint(error: CommandError) -> CommandError {
    match error.is_refusal() {
        true => error.or_hint("the export stays as it is; get `download` on the namespace, or select other namespaces with `--namespace`"),
        false => error,
    }
}

/// Leaves out a version, for a reason that the user reads.
fn leave_out(about: &dyn Display, version: &Version, why: impl Display) -> LeftOut {
    LeftOut {
        sentence: format!("{about} {version} is left out: {why}"),
        distrusted: None,
        version: version.clone(),
    }
}
