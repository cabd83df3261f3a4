//! `module search`: the modules that have some words in their name, description, inputs or README.

use serde::Deserialize;
use serde_json::{Value, json};
use stile_protocol::names::{Namespace, Permission, System};

use super::Context;
use crate::api::Api;
use crate::cli::ModuleSearch;
use crate::error::CommandError;
use crate::output::notice;
use crate::progress::spinning;

/// The largest page of the registry.
const PAGE: usize = 100;

/// One page of what a search found.
#[derive(Deserialize)]
struct Page {
    meta: Meta,
    modules: Vec<Found>,
}

#[derive(Deserialize)]
struct Meta {
    next_offset: Option<usize>,
}

/// A module with its latest version.
#[derive(Deserialize)]
struct Found {
    namespace: String,
    name: String,
    provider: String,
    version: String,
    published_at: String,
    /// The first paragraph of the README.
    #[serde(default)]
    description: Option<String>,
}

impl Found {
    fn address(&self) -> String {
        format!("{}/{}/{}", self.namespace, self.name, self.provider)
    }
}

/// Prints the modules that a search finds, the best one first.
pub(super) async fn run(context: &Context, args: &ModuleSearch) -> Result<(), CommandError> {
    let namespace = args.namespace.as_deref().map(Namespace::parse).transpose()?;
    let system = args.system.as_deref().map(System::parse).transpose()?;
    let query: Vec<(&str, String)> = [
        ("q", Some(args.words.join(" "))),
        ("namespace", namespace.as_ref().map(ToString::to_string)),
        ("provider", system.as_ref().map(ToString::to_string)),
    ]
    .into_iter()
    .filter_map(|(name, value)| Some((name, value?)))
    .collect();
    let limit = usize::from(args.limit);
    let api = Api::new(&args.api, Permission::Download, namespace, context.now)?;
    let (found, more) =
        spinning("searching the modules", Box::pin(pages(&api, &query, limit))).await?;
    let rows: Vec<_> = found
        .iter()
        .map(|module| {
            let description = module.description.clone().unwrap_or_default();
            vec![module.address(), module.version.clone(), description]
        })
        .collect();
    let objects: Vec<Value> = found
        .iter()
        .map(|module| {
            json!({
                "module": module.address(),
                "latest": module.version,
                "published_at": module.published_at,
                "description": module.description,
            })
        })
        .collect();
    let header = ["module", "latest", "description"];
    context.output.rows("such modules", &header, &rows, &objects.into())?;
    if more {
        notice(format_args!("there are more modules; hint: search more words, or use `--limit`"));
    }
    Ok(())
}

/// Reads pages until there are `limit` modules. Returns whether the registry has more.
async fn pages(
    api: &Api,
    query: &[(&str, String)],
    limit: usize,
) -> Result<(Vec<Found>, bool), CommandError> {
    let (mut found, mut offset) = (Vec::new(), 0);
    loop {
        let size = PAGE.min(limit - found.len());
        let place = [("limit", size.to_string()), ("offset", offset.to_string())];
        let query = [query, &place].concat();
        let page: Page = api.read_query("/v1/modules/search", &query).await?;
        let fits = limit - found.len();
        let more = page.modules.len() > fits || page.meta.next_offset.is_some();
        found.extend(page.modules.into_iter().take(fits));
        match page.meta.next_offset {
            // It stops if the offset does not increase, to prevent an endless loop.
            Some(next) if next > offset && found.len() < limit => offset = next,
            _ => return Ok((found, more)),
        }
    }
}
