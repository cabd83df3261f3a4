//! The entity tag of a grant, by which an editor says which state of the grant it has seen.

use std::fmt;

use serde_json::json;
use sha2::{Digest as _, Sha256};

use super::Grant;

/// The bytes of the digest in a tag.
const BYTES: usize = 16;

/// A strong entity tag of a grant (RFC 9110, section 8.8.3), with its quotes.
///
/// It differs if anything in the grant differs: who has it, on what, which permissions, until when,
/// and who created it when. So a grant that was deleted and created again has another tag.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GrantTag(String);

impl GrantTag {
    /// Returns the tag of a grant.
    pub fn of(grant: &Grant) -> Self {
        let fields = json!([
            grant.principal,
            grant.namespace.to_string(),
            grant.permissions,
            grant.expires_at,
            grant.created_by,
            grant.created_at,
        ]);
        let digest = hex::encode(Sha256::digest(fields.to_string()));
        Self(format!("\"{}\"", &digest[..2 * BYTES]))
    }

    /// Parses the value of an `If-Match` header: exactly one strong tag, or `None`.
    ///
    /// A list, `*` and a weak tag (`W/"…"`) are no tag of a grant, so they are not accepted.
    pub fn parse(text: &str) -> Option<Self> {
        let hex = text.strip_prefix('"')?.strip_suffix('"')?;
        let is_hex = hex.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        (hex.len() == 2 * BYTES && is_hex).then(|| Self(text.to_owned()))
    }

    /// Returns the tag with its quotes.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns whether a grant is still in the state of this tag.
    pub fn is_of(&self, grant: &Grant) -> bool {
        *self == Self::of(grant)
    }
}

impl fmt::Display for GrantTag {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use stile_protocol::names::Permission::{Download, Upload};

    use super::super::tests::{grant, principal};
    use super::*;

    const DEPLOY: &str = "aws:111122223333:role/deploy";

    #[test]
    fn only_one_strong_tag_of_a_grant_is_a_tag() {
        let tag = GrantTag::of(&grant(DEPLOY, "acme", &[Download], None));
        let (weak, list) = (format!("W/{tag}"), format!("{tag}, {tag}"));
        let bare = tag.as_str().trim_matches('"').to_owned();
        let upper = tag.as_str().to_ascii_uppercase();
        for text in ["", "*", "\"\"", "\"x\"", &weak, &list, &bare, &upper, &format!(" {tag}")] {
            assert!(GrantTag::parse(text).is_none() || *text == *tag.as_str(), "{text}");
        }
        assert_eq!(GrantTag::parse(tag.as_str()), Some(tag));
    }

    #[test]
    fn a_tag_differs_with_each_part_of_the_grant_and_with_nothing_else() {
        let first = grant(DEPLOY, "acme", &[Download], None);
        let others = [
            Grant { principal: principal("sso:aws:111122223333/deploy"), ..first.clone() },
            grant(DEPLOY, "acm", &[Download], None),
            grant(DEPLOY, "*", &[Download], None),
            grant(DEPLOY, "acme", &[Upload], None),
            grant(DEPLOY, "acme", &[Download, Upload], None),
            grant(DEPLOY, "acme", &[Download], Some(0)),
            grant(DEPLOY, "acme", &[Download], Some(1)),
            Grant { created_by: "other".to_owned(), ..first.clone() },
            Grant { created_at: 1, ..first.clone() },
        ];
        let tag = GrantTag::of(&first);
        assert!(tag.is_of(&first));
        let mut tags: Vec<String> =
            others.iter().map(|other| GrantTag::of(other).to_string()).collect();
        tags.push(tag.to_string());
        tags.sort();
        tags.dedup();
        assert_eq!(tags.len(), others.len() + 1);
        assert!(!others.iter().any(|other| tag.is_of(other)));
    }
}
