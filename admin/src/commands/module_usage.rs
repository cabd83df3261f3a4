//! `module usage`: which principals download which versions of a module.

use serde::Deserialize;
use serde_json::{Value, json};
use stile_core::package::Version;
use stile_protocol::names::{ModuleAddress, Permission};
use terraform_credentials_stile::message::one_line;

use super::Context;
use crate::api::Api;
use crate::cli::ModuleUsage;
use crate::error::CommandError;
use crate::progress::spinning;

/// One page of the downloads of a module.
#[derive(Deserialize)]
struct Page {
    since: String,
    downloads: Vec<Downloads>,
    meta: Meta,
}

#[derive(Deserialize)]
struct Meta {
    next_cursor: Option<String>,
}

/// The downloads of one version by one principal.
#[derive(Deserialize)]
struct Downloads {
    version: String,
    principal: String,
    downloads: u64,
    last_day: String,
}

/// The versions that a user wants to see: `1` and `1.2` are all versions that begin with these
/// numbers, and `1.2.0` is one version.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Versions {
    All,
    BeginningWith(String),
    One(Version),
}

impl Versions {
    fn parse(text: Option<&str>) -> Result<Self, CommandError> {
        let Some(text) = text else { return Ok(Self::All) };
        let is_number = |part: &str| {
            let is_canonical = part == "0" || !part.starts_with('0');
            is_canonical && !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit())
        };
        let parts = text.split('.').count();
        if parts < 3 && text.split('.').all(is_number) {
            return Ok(Self::BeginningWith(format!("{text}.")));
        }
        let one = Version::parse(text).map(Self::One);
        one.map_err(|_| {
            CommandError::usage(format!(
                "`--version {text}` is neither a version nor its beginning"
            ))
            .hint("use `1`, `1.2` or `1.2.0`")
        })
    }

    fn has(&self, version: &str) -> bool {
        match self {
            Self::All => true,
            Self::BeginningWith(start) => version.starts_with(start),
            Self::One(one) => one.to_string() == version,
        }
    }
}

/// Prints the downloads of a module, by version and principal.
pub(super) async fn run(context: &Context, args: &ModuleUsage) -> Result<(), CommandError> {
    let address: ModuleAddress = args.address.parse()?;
    let versions = Versions::parse(args.version.as_deref())?;
    let namespace = Some(address.namespace.clone());
    let api = Api::new(&args.api, Permission::Upload, namespace, context.now)?;
    let reading = spinning("reading the downloads", Box::pin(pages(&api, &address, args.days)));
    let (since, mut found) =
        reading.await.map_err(|error| error.context(format_args!("`{address}`")))?;
    found.retain(|line| versions.has(&line.version));
    // The registry sorts versions as texts.
    found.sort_by_cached_key(|line| {
        let version = Version::parse(&line.version).ok();
        (version, line.version.clone(), line.principal.clone())
    });
    let rows: Vec<_> = found
        .iter()
        .map(|line| {
            let downloads = line.downloads.to_string();
            vec![line.version.clone(), line.principal.clone(), downloads, line.last_day.clone()]
        })
        .collect();
    let objects: Vec<Value> = found
        .iter()
        .map(|line| {
            json!({
                "module": address.to_string(),
                "version": line.version,
                "principal": line.principal,
                "downloads": line.downloads,
                "last_day": line.last_day,
            })
        })
        .collect();
    let header = ["version", "principal", "downloads", "last day"];
    let of = args.version.as_ref().map(|text| format!(" of {text}")).unwrap_or_default();
    let what = format!("downloads{of} since {}", one_line(&since));
    context.output.rows(&what, &header, &rows, &objects.into())
}

/// Reads every page. Returns the first day of the counts, too.
async fn pages(
    api: &Api,
    address: &ModuleAddress,
    days: u32,
) -> Result<(String, Vec<Downloads>), CommandError> {
    let path = format!("/v1/modules/{address}/usage");
    let (mut found, mut cursor) = (Vec::<Downloads>::new(), None);
    loop {
        let mut query = vec![("days", days.to_string())];
        query.extend(cursor.take().map(|cursor| ("cursor", cursor)));
        let page: Page = api.read_query(&path, &query).await?;
        // The lines are in the order of their texts. A page that goes back would never end.
        let place = |line: &Downloads| (line.version.clone(), line.principal.clone());
        let goes_on = found.last().map(place) < page.downloads.first().map(place);
        found.extend(page.downloads);
        cursor = page.meta.next_cursor;
        match cursor {
            None => return Ok((page.since, found)),
            Some(_) if !goes_on => {
                return Err(CommandError::failed("the registry sent an unexpected response"));
            }
            Some(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_neither_a_version_nor_its_beginning_is_a_usage_error() {
        for text in ["", ".", "1.", "v1", "1.x", "01", "1.02", "1.2.0.1", "-1", "1.2.0+b", "x"] {
            let error = Versions::parse(Some(text)).unwrap_err().to_string();
            assert!(error.ends_with("; hint: use `1`, `1.2` or `1.2.0`"), "{text}: {error}");
        }
    }

    #[test]
    fn numbers_select_the_versions_that_begin_with_them() {
        let all = ["1.0.0", "1.0.0-rc.1", "1.2.0", "1.2.0-rc.1", "1.20.0", "10.0.0"];
        for (text, expected) in [
            (None, &all[..]),
            (Some("1"), &all[..5]),
            (Some("1.2"), &["1.2.0", "1.2.0-rc.1"]),
            (Some("1.2.0"), &["1.2.0"]),
            (Some("1.2.0-rc.1"), &["1.2.0-rc.1"]),
            (Some("2"), &[]),
        ] {
            let versions = Versions::parse(text).unwrap();
            let selected: Vec<_> =
                all.into_iter().filter(|version| versions.has(version)).collect();
            assert_eq!(selected, expected, "{text:?}");
        }
    }
}
