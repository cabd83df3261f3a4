//! The trust that believed a caller of AWS, as it was at that time.

use serde_json::{Value, json};

use super::Trust;
use crate::principal::{LocalName, Principal, ShownId, UniqueId};

/// The trust that believed a caller of AWS. Its token ends when the trust changes or goes.
///
/// A caller that a trust believes under the trust's own name has no stamp: its unique id is the
/// trust's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrustStamp {
    /// The name of the trust.
    pub name: LocalName,
    /// Its id.
    pub id: UniqueId,
    /// Its revision.
    pub revision: i64,
    /// Whether grants by name apply although an id is pinned, which the caller did not show.
    pub without_pin: bool,
}

impl TrustStamp {
    /// Returns the stamp of a trust as it is, if it believes callers of AWS.
    pub fn of(trust: &Trust) -> Option<Self> {
        Some(Self {
            without_pin: trust.aws.as_ref()?.without_pin,
            name: trust.name.clone(),
            id: trust.id.clone(),
            revision: trust.revision,
        })
    }

    /// Returns the principal of the trust. It is among the caller's principals, so that an operator can
    /// revoke all callers of the trust.
    pub fn principal(&self) -> Principal {
        Principal::trust(&self.name)
    }

    /// Returns the stamp as a claim.
    pub fn to_claim(&self) -> Value {
        json!({
            "name": self.name.as_str(), "id": self.id.as_str(), "rev": self.revision,
            "without_pin": self.without_pin,
        })
    }

    /// Reads a claim. `None` if it is malformed, or has a field that a newer broker added: that field
    /// may restrict access.
    pub fn read(claim: &Value) -> Option<Self> {
        let fields = claim.as_object().filter(|fields| fields.len() == 4)?;
        let id = UniqueId::parse(fields.get("id")?.as_str()?)?;
        Some(Self {
            name: fields.get("name")?.as_str()?.parse().ok()?,
            id: Some(id).filter(UniqueId::is_of_trust)?,
            revision: fields.get("rev")?.as_i64()?,
            without_pin: fields.get("without_pin")?.as_bool()?,
        })
    }
}

/// Returns what an authentication showed of a unique id: the id, or why there is none.
pub fn shown_id<'a>(id: Option<&'a UniqueId>, trust: Option<&TrustStamp>) -> ShownId<'a> {
    match (id, trust) {
        (Some(id), _) => ShownId::Is(id),
        (None, Some(trust)) if trust.without_pin => ShownId::Waived,
        (None, _) => ShownId::Absent,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_whole_stamp_is_read() {
        let stamp = TrustStamp {
            name: "aws".parse().unwrap(),
            id: UniqueId::random_trust().unwrap(),
            revision: 2,
            without_pin: true,
        };
        let claim = stamp.to_claim();
        assert_eq!(TrustStamp::read(&claim).as_ref(), Some(&stamp));
        assert_eq!(stamp.principal().as_str(), "oidc:aws");
        for (field, bad) in [
            ("name", json!("Aws")),
            ("name", Value::Null),
            ("id", json!("AROAEXAMPLEEXAMPLE222")),
            ("id", json!("x")),
            ("rev", json!("2")),
            ("rev", json!(2.5)),
            ("without_pin", json!(1)),
            ("without_pin", Value::Null),
            ("until", json!(7)),
        ] {
            let mut changed = claim.clone();
            changed[field] = bad;
            assert_eq!(TrustStamp::read(&changed), None, "{field}");
        }
        for field in ["name", "id", "rev", "without_pin"] {
            let mut changed = claim.clone();
            changed.as_object_mut().unwrap().remove(field);
            assert_eq!(TrustStamp::read(&changed), None, "{field}");
        }
        assert_eq!(TrustStamp::read(&json!([])), None);
    }
}
