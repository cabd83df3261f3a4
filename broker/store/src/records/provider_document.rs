//! The ready-made versions document of a provider: what it says about each version, and its warnings.
//!
//! Each entry can have a field `warning`. The list `warnings`, which clients print, is made from them.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};
use stile_core::package::provider::{KeyId, Release};
use stile_core::package::{Life, PackageAddress, Version};

/// The JSON pointer to the versions.
pub(super) const VERSIONS: &str = "/versions";

/// The JSON pointer to the warnings that clients print.
const WARNINGS: &str = "/warnings";

/// The field of an entry with its warning. The registry removes it before it answers a client.
const WARNING: &str = "warning";

/// The most warnings of a document. Terraform prints every one at every `init`.
const MAX_WARNINGS: usize = 10;

/// The keys of a namespace that its publisher no longer trusts.
pub(crate) type DistrustedKeys = BTreeSet<KeyId>;

/// A version as an entry describes it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Described<'a> {
    pub(super) address: &'a PackageAddress,
    pub(super) version: &'a Version,
    pub(super) release: &'a Release,
    pub(super) life: &'a Life,
    pub(super) distrusted: &'a DistrustedKeys,
}

/// Sets the fields of an entry, and keeps those that a newer program added.
pub(super) fn describe(entry: &mut Map<String, Value>, described: &Described<'_>) {
    let release = described.release;
    let protocols: Vec<String> = release.protocols.iter().map(ToString::to_string).collect();
    let platforms = release.files.keys();
    let platforms: Vec<_> =
        platforms.map(|platform| json!({ "os": platform.os(), "arch": platform.arch() })).collect();
    entry.insert("protocols".to_owned(), protocols.into());
    entry.insert("platforms".to_owned(), platforms.into());
    match warning(described) {
        Some(warning) => entry.insert(WARNING.to_owned(), warning.into()),
        None => entry.remove(WARNING),
    };
}

/// Returns the warning for those who use the version, if there is one: the gravest.
fn warning(described: &Described<'_>) -> Option<String> {
    let Described { address, version, release, life, distrusted } = described;
    let text = match (&life.unpublished, &life.deprecated) {
        _ if distrusted.contains(&release.sums.key_id) => {
            "is signed by a key that its publisher no longer trusts; the registry refuses its download until it is signed again".to_owned()
        }
        (Some(step), _) => format!("is yanked: {}", step.explanation.sentence()),
        (None, Some(step)) => format!("is deprecated: {}", step.explanation.sentence()),
        (None, None) => return None,
    };
    Some(format!("{address} {version} {text}"))
}

/// Makes the list of warnings from those of the entries: the newest versions first.
pub(super) fn set_warnings(document: &mut Value) {
    let entries = document.pointer(VERSIONS).and_then(Value::as_array);
    let warnings: Vec<String> = entries
        .into_iter()
        .flatten()
        .rev()
        .filter_map(|entry| entry.get(WARNING)?.as_str().map(str::to_owned))
        .collect();
    let more = warnings.len().saturating_sub(MAX_WARNINGS);
    let more = (more > 0).then(|| format!("and {more} more"));
    let warnings: Vec<String> = warnings.into_iter().take(MAX_WARNINGS).chain(more).collect();
    match document.pointer_mut(WARNINGS) {
        Some(listed) => *listed = warnings.into(),
        None => {
            if let Some(document) = document.as_object_mut() {
                document.insert("warnings".to_owned(), warnings.into());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_warnings_are_listed_and_the_others_counted() {
        let entry = |n: usize| json!({ "version": format!("1.{n}.0"), WARNING: format!("w{n}") });
        for (count, last) in [(0, None), (10, Some("w0")), (11, Some("and 1 more"))] {
            let versions: Vec<Value> = (0..count).map(entry).collect();
            let mut document = json!({ "versions": versions, "more": 1 });
            set_warnings(&mut document);
            let warnings = document["warnings"].as_array().unwrap();
            assert_eq!(warnings.last().and_then(Value::as_str), last, "{count}");
            assert_eq!(
                warnings.first(),
                count.checked_sub(1).map(|n| json!(format!("w{n}"))).as_ref()
            );
            assert_eq!(document["more"], 1);
        }
    }
}
