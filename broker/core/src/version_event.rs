//! The event that the registry sends when a version is published, or its life changes.

use serde::Serialize;
use stile_protocol::names::Namespace;

use crate::clock::rfc3339;
use crate::package::provider::Release;
use crate::package::{LifeChange, PackageAddress, Version};

/// The version of an event's fields, in its field `v`.
///
/// It increases when a field changes its name or meaning, but not for a new field.
pub const VERSION: u64 = 1;

/// What happened to a version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Happening {
    /// It was published.
    Published,
    /// It was deprecated, or deprecated again for another reason.
    Deprecated,
    /// Its deprecation was taken back.
    Undeprecated,
    /// It was unpublished, or unpublished again for another reason.
    Unpublished,
    /// It was restored.
    Restored,
}

impl Happening {
    /// All values.
    pub const ALL: [Self; 5] =
        [Self::Published, Self::Deprecated, Self::Undeprecated, Self::Unpublished, Self::Restored];

    /// Returns the second word of the event's type.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Published => "published",
            Self::Deprecated => "deprecated",
            Self::Undeprecated => "undeprecated",
            Self::Unpublished => "unpublished",
            Self::Restored => "restored",
        }
    }
}

impl From<&LifeChange> for Happening {
    fn from(change: &LifeChange) -> Self {
        match change {
            LifeChange::Deprecate(_) => Self::Deprecated,
            LifeChange::Undeprecate => Self::Undeprecated,
            LifeChange::Unpublish(_) => Self::Unpublished,
            LifeChange::Restore => Self::Restored,
        }
    }
}

/// An event, ready to send. It never changes, so that each attempt sends the same.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VersionEvent {
    /// The id. Every attempt has the same, so that a receiver can drop the second. Ids sort by time,
    /// to the second.
    pub id: String,
    /// The namespace of the package.
    pub namespace: Namespace,
    /// The type, for example `module.published`.
    pub kind: String,
    /// The event as JSON.
    pub body: String,
    /// The time of the change, in Unix seconds.
    pub at: i64,
}

/// What a version consists of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Consists<'a> {
    /// An archive with this SHA-256, in lower-case hexadecimal.
    Archive(&'a str),
    /// Files at another server, which this source names.
    Source(&'a str),
    /// The files of a provider.
    Release(&'a Release),
}

/// What an event says.
#[derive(Debug, Clone)]
pub struct Facts<'a> {
    /// What happened.
    pub happening: Happening,
    /// The time of the change, in Unix seconds.
    pub at: i64,
    /// The registry host.
    pub registry: &'a str,
    /// The package.
    pub address: &'a PackageAddress,
    /// The version.
    pub version: &'a Version,
    /// What the version consists of.
    pub consists: Consists<'a>,
    /// The principal that made the change.
    pub principal: &'a str,
    /// The id of the principal's token.
    pub token_id: &'a str,
    /// The reason that the principal gave.
    pub reason: Option<&'a str>,
}

/// The JSON of an event. The fields are in this order.
#[derive(Serialize)]
struct Detail<'a> {
    v: u64,
    id: &'a str,
    r#type: &'a str,
    time: String,
    registry: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    module: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    provider: Option<String>,
    version: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    sha256: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    source: Option<&'a str>,
    principal: &'a str,
    token_id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'a str>,
}

impl VersionEvent {
    /// Creates an event with a random id.
    ///
    /// # Errors
    ///
    /// If the system provides no random bytes.
    pub fn new(facts: &Facts<'_>) -> Result<Self, getrandom::Error> {
        let mut bytes = [0; 12];
        getrandom::fill(&mut bytes)?;
        let seconds = u32::try_from(facts.at.max(0)).unwrap_or(u32::MAX);
        Ok(Self::with_id(format!("evt_{seconds:08x}{}", hex::encode(bytes)), facts))
    }

    fn with_id(id: String, facts: &Facts<'_>) -> Self {
        let kind = format!("{}.{}", facts.address.kind(), facts.happening.as_str());
        let of_release;
        let (sha256, source) = match facts.consists {
            Consists::Archive(sha256) => (Some(sha256), None),
            Consists::Source(source) => (None, Some(source)),
            Consists::Release(release) => {
                of_release = release.sha256();
                (Some(of_release.as_str()), None)
            }
        };
        let detail = Detail {
            v: VERSION,
            id: &id,
            r#type: &kind,
            time: rfc3339(facts.at),
            registry: facts.registry,
            module: facts.address.module().map(ToString::to_string),
            provider: facts.address.provider().map(ToString::to_string),
            version: facts.version.to_string(),
            sha256,
            source,
            principal: facts.principal,
            token_id: facts.token_id,
            reason: facts.reason,
        };
        // A structure of strings always becomes JSON.
        let body = serde_json::to_string(&detail).unwrap_or_default();
        Self { id, namespace: facts.address.namespace().clone(), kind, body, at: facts.at }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts<'a>(
        happening: Happening,
        address: &'a PackageAddress,
        version: &'a Version,
        reason: Option<&'a str>,
    ) -> Facts<'a> {
        Facts {
            happening,
            at: 1_795_169_472,
            registry: "registry.example.com",
            address,
            version,
            consists: Consists::Archive("ab"),
            principal: "aws:111122223333:role/deploy",
            token_id: "jti",
            reason,
        }
    }

    #[test]
    fn an_event_says_who_changed_which_version_and_why() {
        let address = PackageAddress::Module("acme/vpc/aws".parse().unwrap());
        let version = Version::parse("1.2.0-rc.1").unwrap();
        let facts = facts(Happening::Deprecated, &address, &version, Some("a \"leak\""));
        let event = VersionEvent::with_id("evt_1".to_owned(), &facts);
        assert_eq!(
            event.body,
            r#"{"v":1,"id":"evt_1","type":"module.deprecated","time":"2026-11-20T10:11:12Z","registry":"registry.example.com","module":"acme/vpc/aws","version":"1.2.0-rc.1","sha256":"ab","principal":"aws:111122223333:role/deploy","token_id":"jti","reason":"a \"leak\""}"#
        );
        assert_eq!((event.kind.as_str(), event.at), ("module.deprecated", 1_795_169_472));
    }

    #[test]
    fn a_version_with_a_source_has_no_digest() {
        let address = PackageAddress::Module("acme/vpc/aws".parse().unwrap());
        let version = Version::parse("1.0.0").unwrap();
        let facts = Facts {
            consists: Consists::Source("git::https://git.example/vpc?ref=v1.0.0"),
            ..facts(Happening::Published, &address, &version, None)
        };
        let body = VersionEvent::with_id("evt_1".to_owned(), &facts).body;
        assert!(body.contains(r#","source":"git::https://git.example/vpc?ref=v1.0.0","#), "{body}");
        assert!(!body.contains("sha256"), "{body}");
    }

    #[test]
    fn ids_sort_by_time_also_beyond_the_years_that_they_can_tell() {
        let address = PackageAddress::Module("acme/vpc/aws".parse().unwrap());
        let version = Version::parse("1.0.0").unwrap();
        let ids = [i64::MIN, 1, 0x1000, 1_795_169_472, i64::MAX].map(|at| {
            let facts = Facts { at, ..facts(Happening::Published, &address, &version, None) };
            VersionEvent::new(&facts).unwrap().id
        });
        assert!(ids.is_sorted() && ids[1].starts_with("evt_00000001"), "{ids:?}");
    }

    #[test]
    fn each_event_has_its_own_id_and_type_and_no_reason_that_nobody_gave() {
        let address = PackageAddress::Module("acme/vpc/aws".parse().unwrap());
        let version = Version::parse("1.0.0").unwrap();
        let events = Happening::ALL.map(|happening| {
            VersionEvent::new(&facts(happening, &address, &version, None)).unwrap()
        });
        let ids: std::collections::BTreeSet<_> = events.iter().map(|event| &event.id).collect();
        let kinds: std::collections::BTreeSet<_> = events.iter().map(|event| &event.kind).collect();
        assert_eq!((ids.len(), kinds.len()), (5, 5));
        for event in events {
            assert!(event.id.strip_prefix("evt_").is_some_and(|hex| hex.len() == 32), "{event:?}");
            assert!(!event.body.contains("reason"), "{event:?}");
        }
    }
}
