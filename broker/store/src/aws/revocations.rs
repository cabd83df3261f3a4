//! Revocations as one document, since every bearer check reads all of it.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use stile_protocol::exchange::MAX_TTL;

use super::Aws;
use super::document;
use super::mint::MARGIN;
use super::retry::Retry;
use super::table::{Key, Row, Write, Written, bytes, number, read_bytes, read_number};
use crate::{Revocations, RevokedPrincipal, RevokedToken, StoreError};
use stile_core::principal::Principal;
use stile_core::token::TokenId;

/// How long a revoked token is remembered, in seconds: the longest token, and what clocks differ by.
///
/// Were it forgotten before it has expired, it would be good again.
const REMEMBERED: i64 = MAX_TTL + 60;

/// All that is revoked, as it was found.
#[derive(Default)]
pub(super) struct Document {
    revision: i64,
    kept: Kept,
}

/// Entries are kept as they are: one that cannot be read revokes nothing, and is not lost by the next.
#[derive(Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Kept {
    tokens: Vec<(Value, i64)>,
    principals: Vec<(Value, i64)>,
}

/// Where they are kept.
pub(super) fn key() -> Key {
    Key::new("revocations", "revocations")
}

/// Reads the document; one that cannot be read is no reason to take nothing for revoked.
pub(super) fn read(row: Option<&Row>) -> Result<Document, StoreError> {
    let Some(row) = row else { return Ok(Document::default()) };
    let parse = || {
        let kept = serde_json::from_slice(&document::unfold(read_bytes(row, "document")?)?).ok()?;
        Some(Document { revision: read_number(row, "revision")?, kept })
    };
    parse().ok_or_else(|| StoreError::corrupt("the revocations in the store cannot be read"))
}

impl Document {
    /// Tokens, those that are forgotten next first.
    pub(super) fn tokens(&self) -> impl Iterator<Item = RevokedToken> {
        let read = |(id, keep_until): &(Value, i64)| {
            Some(RevokedToken { id: TokenId::parse(id.as_str()?)?, keep_until: *keep_until })
        };
        readable(&self.kept.tokens, read)
    }

    /// Whether the principal is revoked.
    pub(super) fn has_principal(&self, principal: &Principal) -> bool {
        self.kept.principals.iter().any(|(revoked, _)| revoked == principal.as_str())
    }

    fn principals(&self) -> impl Iterator<Item = RevokedPrincipal> {
        let read = |(principal, revoked_at): &(Value, i64)| {
            Some(RevokedPrincipal {
                principal: Principal::parse_stored(principal.as_str()?).ok()?,
                revoked_at: *revoked_at,
            })
        };
        readable(&self.kept.principals, read)
    }
}

impl Aws {
    pub(crate) async fn revoke_token(&self, id: TokenId, now: i64) -> Result<(), StoreError> {
        self.revise(|kept| {
            kept.tokens.retain(|(token, keep_until)| {
                *keep_until >= now.saturating_sub(MARGIN) && token != id.as_str()
            });
            kept.tokens.push((id.as_str().into(), now.saturating_add(REMEMBERED)));
            true
        })
        .await
        .map(drop)
    }

    pub(crate) async fn revoke_principal(
        &self,
        principal: Principal,
        now: i64,
    ) -> Result<bool, StoreError> {
        self.revise(|kept| {
            if kept.principals.iter().any(|(revoked, _)| revoked == principal.as_str()) {
                return false;
            }
            kept.principals.push((principal.as_str().into(), now));
            true
        })
        .await
    }

    pub(crate) async fn lift(&self, principal: Principal) -> Result<bool, StoreError> {
        self.revise(|kept| {
            let before = kept.principals.len();
            kept.principals.retain(|(revoked, _)| revoked != principal.as_str());
            kept.principals.len() < before
        })
        .await
    }

    pub(crate) async fn revocations(&self) -> Result<Revocations, StoreError> {
        let document = read(self.row(&key()).await?.as_ref())?;
        let (mut tokens, mut principals): (Vec<_>, Vec<_>) =
            (document.tokens().collect(), document.principals().collect());
        tokens.sort_by(|one, other| {
            (one.keep_until, one.id.as_str()).cmp(&(other.keep_until, other.id.as_str()))
        });
        principals.sort_by(|one, other| one.principal.as_str().cmp(other.principal.as_str()));
        Ok(Revocations { tokens, principals })
    }

    /// Changes the document unless `change` says there is nothing to; whether it did.
    async fn revise(&self, mut change: impl FnMut(&mut Kept) -> bool) -> Result<bool, StoreError> {
        let mut retry = Retry::default();
        loop {
            let mut document = read(self.row(&key()).await?.as_ref())?;
            if !change(&mut document.kept) {
                return Ok(false);
            }
            let kept = serde_json::to_vec(&document.kept).map_err(|error| {
                StoreError::unavailable("the revocations cannot be written", error)
            })?;
            let folded = document::fold(&kept).ok_or_else(|| {
                StoreError::busy("the token revocation list is full; hint: revoke the principal, or every token with `--all`")
            })?;
            let row = [
                ("revision", number(document.revision.saturating_add(1))),
                ("document", bytes(folded)),
            ];
            match self
                .transact(vec![Write::put(key(), row).only_if_revision(document.revision)])
                .await?
            {
                Written::Done => return Ok(true),
                Written::Refused(_) | Written::Conflict => retry.again().await?,
            }
        }
    }
}

fn readable<'a, T: 'a>(
    kept: &'a [(Value, i64)],
    read: impl Fn(&(Value, i64)) -> Option<T> + 'a,
) -> impl Iterator<Item = T> + 'a {
    kept.iter().filter_map(move |entry| {
        let read = read(entry);
        if read.is_none() {
            tracing::error!(
                alarm = "unreadable_revocation",
                "a revocation in the store cannot be read and revokes nothing"
            );
        }
        read
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(document: &str) -> Row {
        [
            ("revision".to_owned(), number(3)),
            ("document".to_owned(), bytes(document::fold(document.as_bytes()).unwrap())),
        ]
        .into()
    }

    #[test]
    fn what_names_nothing_revokes_nothing_and_the_others_do() {
        let token = TokenId::random().unwrap();
        let deploy = Principal::parse_stored("aws:111122223333:role/deploy").unwrap();
        let text = serde_json::json!({
            "tokens": [["x", 5], [token.as_str(), 6], [7, 7]],
            "principals": [["x|.*", 5], [deploy.as_str(), 6]],
        });
        let document = read(Some(&row(&text.to_string()))).unwrap();
        assert_eq!(document.tokens().map(|token| token.id).collect::<Vec<_>>(), [token]);
        assert_eq!(document.principals().count(), 1);
        assert!(document.has_principal(&deploy));
    }

    #[test]
    fn a_document_that_cannot_be_read_is_not_taken_for_nothing_revoked() {
        assert_eq!(read(None).unwrap().tokens().count(), 0);
        for bad in ["", "{}", "[]", r#"{"tokens":[],"principals":[],"more":1}"#] {
            assert!(read(Some(&row(bad))).is_err(), "{bad}");
        }
        assert!(read(Some(&Row::new())).is_err());
    }

    #[test]
    fn ten_thousand_revoked_tokens_fit_into_the_document() {
        let tokens = (0..10_000)
            .map(|n| (TokenId::random().unwrap().as_str().into(), 1_800_000_000 + n))
            .collect();
        let kept = Kept { tokens, principals: Vec::new() };
        assert!(document::fold(&serde_json::to_vec(&kept).unwrap()).is_some());
    }
}
