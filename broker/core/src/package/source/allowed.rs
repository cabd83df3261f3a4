//! What an operator allows as sources of the versions in one namespace.

use serde_json::{Map, Value, json};

use super::allowed_objects::AllowedObjects;
use super::location::{SourceError, check_path, split};
use super::module_source::ModuleSource;
use super::object::ObjectAddress;
use crate::critical::{self, CRIT};

/// The version of the stored list. A reader of another version allows nothing.
const FORMAT: u64 = 1;

/// The field of an entry with its address, and the one that allows branches and other tags.
const ADDRESS: &str = "address";
const MOVING_REFS: &str = "moving_refs";

/// The maximum number of entries of one namespace.
const MAX_ENTRIES: usize = 64;

/// One allowed source: a server, or a path on it with everything below.
///
/// Examples: `git::https://github.com/acme`, `https://example.com/`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AllowedSource {
    /// The address without a `/` at its end, unless it is a whole server.
    address: String,
    moving_refs: bool,
    /// Fields that a newer program added.
    unknown: Map<String, Value>,
}

impl AllowedSource {
    /// Parses the address that an operator typed. A `/` at its end has no meaning.
    ///
    /// `moving_refs` allows branches, and tags that are not `v` and a version. It has no meaning for
    /// archives.
    ///
    /// # Errors
    ///
    /// [`SourceError`], if the text is not an address as in a source, or contains a query or `//`.
    pub fn parse(text: &str, moving_refs: bool) -> Result<Self, SourceError> {
        if text.contains('?') {
            return Err(SourceError::new("an allowed source must have no query"));
        }
        let (getter, path) = split(text)?;
        // An empty path is the whole server.
        let mut address = text;
        if !path.is_empty() {
            address = text.strip_suffix('/').unwrap_or(text);
            check_path(path.strip_suffix('/').unwrap_or(path))?;
        }
        let moving_refs = moving_refs && getter.is_git();
        Ok(Self { address: address.to_owned(), moving_refs, unknown: Map::new() })
    }

    /// Returns the address in its canonical form.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Returns whether branches are allowed, and tags that are not `v` and a version.
    pub const fn moving_refs(&self) -> bool {
        self.moving_refs
    }

    /// Returns whether it is for repositories.
    pub fn is_git(&self) -> bool {
        split(&self.address).is_ok_and(|(getter, _)| getter.is_git())
    }

    /// Returns whether the source is at this address or below. `acme` does not include `acme-x`.
    fn includes(&self, source: &ModuleSource) -> bool {
        source.package().strip_prefix(&self.address).is_some_and(|below| {
            below.is_empty() || below.starts_with('/') || self.address.ends_with('/')
        })
    }

    fn read(value: &Value) -> Option<Self> {
        let mut unknown = value.as_object()?.clone();
        if !critical::understood(unknown.get(CRIT), &[ADDRESS, MOVING_REFS]) {
            return None;
        }
        let address = unknown.remove(ADDRESS)?;
        let moving_refs = match unknown.remove(MOVING_REFS) {
            None => false,
            Some(value) => value.as_bool()?,
        };
        Some(Self { unknown, ..Self::parse(address.as_str()?, moving_refs).ok()? })
    }

    fn to_json(&self) -> Value {
        let mut fields = self.unknown.clone();
        fields.insert(ADDRESS.to_owned(), self.address.clone().into());
        if self.moving_refs {
            fields.insert(MOVING_REFS.to_owned(), true.into());
        }
        fields.into()
    }
}

/// One entry of the list as the store has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AllowedEntry {
    /// An allowed source.
    Known(AllowedSource),
    /// Allowed objects of a bucket.
    Objects(AllowedObjects),
    /// An entry of a newer program, or a damaged one. It allows nothing.
    Unknown(Value),
}

/// The list of a namespace. An empty list allows no source.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AllowedSources {
    entries: Vec<AllowedEntry>,
    /// Fields outside of the list that a newer program added.
    unknown: Map<String, Value>,
    /// The stored text, if this program cannot read it. It allows nothing.
    unreadable: Option<String>,
}

/// The reason why a namespace cannot have a version with a source.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SourceRefusal {
    /// No entry of the list includes it.
    #[error("the operator allows no such source for the namespace")]
    NotAllowed,
    /// An entry includes it, and allows no branches.
    #[error(
        "its `ref` must be a full commit id, or `v` and a version, because the operator allows no \
         branches and no other tags for it"
    )]
    MovingReference,
}

/// A change of the list.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SourcesChange {
    /// Whether all entries are removed first.
    pub remove_all: bool,
    /// The entries to add. One with the address of an existing entry replaces it.
    pub add: Vec<AllowedSource>,
    /// The objects to add, by the same rule.
    pub add_objects: Vec<AllowedObjects>,
}

/// The reason why a list cannot be changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SourcesError {
    /// A newer program wrote the list, or it is damaged.
    #[error("this program cannot read the list of allowed sources")]
    Unreadable,
    /// The list would have too many entries.
    #[error("a namespace can have at most {MAX_ENTRIES} allowed sources")]
    TooMany,
}

impl AllowedSources {
    /// Reads the stored text. What this program does not understand allows nothing, and stays.
    pub fn read(text: Option<&str>) -> Self {
        let Some(text) = text else { return Self::default() };
        let parse = || {
            let mut fields = serde_json::from_str::<Map<String, Value>>(text).ok()?;
            if !critical::understood(fields.get(CRIT), &["sources"]) {
                return None;
            }
            let version = fields.remove("version")?.as_u64()?;
            let Value::Array(entries) = fields.remove("sources")? else { return None };
            let entry = |value: Value| {
                let known = AllowedSource::read(&value).map(AllowedEntry::Known);
                let known =
                    known.or_else(|| AllowedObjects::read(&value).map(AllowedEntry::Objects));
                known.unwrap_or(AllowedEntry::Unknown(value))
            };
            let entries = entries.into_iter().map(entry).collect();
            (version == FORMAT).then_some(Self { entries, unknown: fields, unreadable: None })
        };
        parse().unwrap_or_else(|| Self { unreadable: Some(text.to_owned()), ..Self::default() })
    }

    /// Returns the text to store. `None` if the list is empty.
    pub fn to_text(&self) -> Option<String> {
        if let Some(text) = &self.unreadable {
            return Some(text.clone());
        }
        if self.entries.is_empty() && self.unknown.is_empty() {
            return None;
        }
        let entry = |entry: &AllowedEntry| match entry {
            AllowedEntry::Known(source) => source.to_json(),
            AllowedEntry::Objects(objects) => objects.to_json(),
            AllowedEntry::Unknown(value) => value.clone(),
        };
        let mut fields = self.unknown.clone();
        fields.insert("version".to_owned(), FORMAT.into());
        fields.insert("sources".to_owned(), self.entries.iter().map(entry).collect());
        Some(json!(fields).to_string())
    }

    /// Returns the entries in order of their addresses, and then those that this program does not
    /// understand.
    pub fn entries(&self) -> &[AllowedEntry] {
        &self.entries
    }

    /// Returns whether this program can read the list.
    pub const fn is_readable(&self) -> bool {
        self.unreadable.is_none()
    }

    /// Decides whether a version in the namespace may have this source.
    ///
    /// # Errors
    ///
    /// [`SourceRefusal`], if no entry allows it.
    pub fn permit(&self, source: &ModuleSource) -> Result<(), SourceRefusal> {
        let including = self.entries.iter().filter_map(|entry| match entry {
            AllowedEntry::Known(allowed) if allowed.includes(source) => Some(allowed),
            AllowedEntry::Known(_) | AllowedEntry::Objects(_) | AllowedEntry::Unknown(_) => None,
        });
        // The longest address decides, so that an entry can be stricter than the one above it.
        match including.max_by_key(|allowed| allowed.address.len()) {
            None => Err(SourceRefusal::NotAllowed),
            Some(allowed) if !allowed.moving_refs && source.is_moving() => {
                Err(SourceRefusal::MovingReference)
            }
            Some(_) => Ok(()),
        }
    }

    /// Decides whether a version in the namespace may be this object. Returns the region of its
    /// bucket.
    ///
    /// # Errors
    ///
    /// [`SourceRefusal::NotAllowed`], if no entry includes it.
    pub fn permit_object(&self, object: &ObjectAddress) -> Result<&'static str, SourceRefusal> {
        let including = self.entries.iter().filter_map(|entry| match entry {
            AllowedEntry::Objects(allowed) if allowed.includes(object) => Some(allowed),
            AllowedEntry::Known(_) | AllowedEntry::Objects(_) | AllowedEntry::Unknown(_) => None,
        });
        // Of several entries, the longest one says where the bucket is.
        let including = including.max_by_key(|allowed| allowed.address().len());
        including.map(AllowedObjects::region).ok_or(SourceRefusal::NotAllowed)
    }

    /// Returns the list after a change. Entries that the change does not name stay.
    ///
    /// # Errors
    ///
    /// [`SourcesError`], if this program cannot read the list, or if it would be too long.
    pub fn changed(&self, change: &SourcesChange) -> Result<Self, SourcesError> {
        let mut after = if change.remove_all { Self::default() } else { self.clone() };
        if !after.is_readable() {
            return Err(SourcesError::Unreadable);
        }
        for source in &change.add {
            let same = after.entries.iter_mut().find_map(|entry| match entry {
                AllowedEntry::Known(known) if known.address == source.address => Some(known),
                AllowedEntry::Known(_) | AllowedEntry::Objects(_) | AllowedEntry::Unknown(_) => {
                    None
                }
            });
            match same {
                Some(known) => known.moving_refs = source.moving_refs,
                None => after.entries.push(AllowedEntry::Known(source.clone())),
            }
        }
        for objects in &change.add_objects {
            let same = after.entries.iter_mut().find_map(|entry| match entry {
                AllowedEntry::Objects(known) if known.address() == objects.address() => Some(known),
                AllowedEntry::Known(_) | AllowedEntry::Objects(_) | AllowedEntry::Unknown(_) => {
                    None
                }
            });
            match same {
                Some(known) => known.set_region(objects),
                None => after.entries.push(AllowedEntry::Objects(objects.clone())),
            }
        }
        after.entries.sort_by_cached_key(|entry| match entry {
            AllowedEntry::Known(source) => (false, source.address.clone()),
            AllowedEntry::Objects(objects) => (false, objects.address().to_owned()),
            AllowedEntry::Unknown(value) => (true, value.to_string()),
        });
        if after.entries.len() > MAX_ENTRIES {
            return Err(SourcesError::TooMany);
        }
        Ok(after)
    }
}
