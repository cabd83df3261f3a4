//! Revocations as rows, and a pin taken back: what an operator does when a token, a principal or a unique id has gone wrong.

use rusqlite::{Connection, params};
use stile_protocol::exchange::MAX_TTL;

use super::mint::MARGIN;
use super::{Embedded, database_error};
use crate::{Revocations, RevokedPrincipal, RevokedToken, StoreError};
use stile_core::principal::Principal;
use stile_core::token::TokenId;

/// How long a revoked token is remembered, in seconds: the longest token, and what clocks differ by.
///
/// Were it forgotten before it has expired, it would be good again.
const REMEMBERED: i64 = MAX_TTL + 60;

impl Embedded {
    pub(crate) async fn revoke_token(&self, id: TokenId, now: i64) -> Result<(), StoreError> {
        self.write(move |transaction| {
            transaction
                .execute(
                    "DELETE FROM revoked_tokens WHERE keep_until < ?1",
                    [now.saturating_sub(MARGIN)],
                )
                .map_err(database_error)?;
            transaction
                .execute(
                    "INSERT OR REPLACE INTO revoked_tokens (jti, keep_until) VALUES (?1, ?2)",
                    params![id.as_str(), now.saturating_add(REMEMBERED)],
                )
                .map(drop)
                .map_err(database_error)
        })
        .await
    }

    pub(crate) async fn revoke_principal(
        &self,
        principal: Principal,
        now: i64,
    ) -> Result<bool, StoreError> {
        self.write(move |transaction| {
            transaction
                .execute(
                    "INSERT OR IGNORE INTO revoked_principals (principal, revoked_at) VALUES (?1, ?2)",
                    params![principal.as_str(), now],
                )
                .map(|rows| rows > 0)
                .map_err(database_error)
        })
        .await
    }

    pub(crate) async fn lift(&self, principal: Principal) -> Result<bool, StoreError> {
        self.write(move |transaction| {
            transaction
                .execute(
                    "DELETE FROM revoked_principals WHERE principal = ?1",
                    [principal.as_str()],
                )
                .map(|rows| rows > 0)
                .map_err(database_error)
        })
        .await
    }

    pub(crate) async fn revocations(&self) -> Result<Revocations, StoreError> {
        self.read(|connection| {
            let tokens = rows(
                connection,
                "SELECT jti, keep_until FROM revoked_tokens ORDER BY keep_until, jti",
            )?;
            let principals = rows(
                connection,
                "SELECT principal, revoked_at FROM revoked_principals ORDER BY principal",
            )?;
            let token = |(text, keep_until): &(String, i64)| {
                Some(RevokedToken { id: TokenId::parse(text)?, keep_until: *keep_until })
            };
            let principal = |(text, revoked_at): &(String, i64)| {
                Some(RevokedPrincipal {
                    principal: Principal::parse_stored(text).ok()?,
                    revoked_at: *revoked_at,
                })
            };
            let (tokens, principals) = (readable(&tokens, token), readable(&principals, principal));
            Ok(Revocations { tokens, principals })
        })
        .await
    }

    pub(crate) async fn unpin(&self, principal: Principal) -> Result<bool, StoreError> {
        self.write(move |transaction| {
            transaction
                .execute("DELETE FROM pins WHERE principal = ?1", [principal.as_str()])
                .map(|rows| rows > 0)
                .map_err(database_error)
        })
        .await
    }
}

fn rows(connection: &Connection, sql: &str) -> Result<Vec<(String, i64)>, StoreError> {
    connection
        .prepare_cached(sql)
        .and_then(|mut statement| {
            statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?.collect()
        })
        .map_err(database_error)
}

/// A row that somebody wrote by hand and that names nothing revokes nothing; the others do.
fn readable<T>(rows: &[(String, i64)], read: impl Fn(&(String, i64)) -> Option<T>) -> Vec<T> {
    let found: Vec<T> = rows.iter().filter_map(read).collect();
    if found.len() < rows.len() {
        tracing::error!(
            alarm = "unreadable_revocation",
            "a revocation in the store cannot be read and revokes nothing"
        );
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{EmbeddedDeadlines, SingleUseOutcome};
    use stile_core::grants::Pin;
    use stile_core::principal::UniqueId;

    fn principal(text: &str) -> Principal {
        Principal::parse_stored(text).unwrap()
    }

    fn opened() -> (tempfile::TempDir, Embedded) {
        let folder = tempfile::tempdir().unwrap();
        Embedded::init(folder.path(), EmbeddedDeadlines::default()).unwrap();
        let store = Embedded::open(folder.path(), EmbeddedDeadlines::default()).unwrap();
        (folder, store)
    }

    #[tokio::test]
    async fn a_token_stays_revoked_until_no_token_can_be_that_old() {
        let (_folder, store) = opened();
        let (first, second) = (TokenId::random().unwrap(), TokenId::random().unwrap());
        store.revoke_token(first.clone(), 1000).await.unwrap();
        for (now, remembered) in [
            (1000 + MAX_TTL, true),
            (1000 + MAX_TTL + 60, true),
            (1000 + MAX_TTL + 61 + MARGIN, false),
        ] {
            store.revoke_token(second.clone(), now).await.unwrap();
            let tokens: Vec<TokenId> = store
                .revocations()
                .await
                .unwrap()
                .tokens
                .into_iter()
                .map(|token| token.id)
                .collect();
            assert_eq!(tokens.contains(&first), remembered, "{now}");
            assert_eq!(
                store.principal_state(vec![]).await.unwrap().revoked_tokens.contains(&first),
                remembered,
                "{now}"
            );
            assert!(tokens.contains(&second));
        }
    }

    #[tokio::test]
    async fn a_principal_is_revoked_until_it_is_lifted() {
        let (_folder, store) = opened();
        let (deploy, account) =
            (principal("aws:111122223333:role/deploy"), principal("account:aws:111122223333"));
        assert!(!store.lift(account.clone()).await.unwrap());
        assert!(store.revoke_principal(account.clone(), 5).await.unwrap());
        assert!(
            !store.revoke_principal(account.clone(), 9).await.unwrap(),
            "the first time counts"
        );
        assert_eq!(
            store.revocations().await.unwrap().principals,
            [RevokedPrincipal { principal: account.clone(), revoked_at: 5 }]
        );
        assert_eq!(
            store.principal_state(vec![deploy.clone(), account.clone()]).await.unwrap().revoked,
            Some(account.clone())
        );
        assert!(store.lift(account.clone()).await.unwrap());
        assert_eq!(store.principal_state(vec![deploy, account]).await.unwrap().revoked, None);
    }

    #[tokio::test]
    async fn a_pin_that_is_taken_back_is_set_by_the_next_mint() {
        let (_folder, store) = opened();
        let deploy = principal("aws:111122223333:role/deploy");
        let id = |text| UniqueId::parse(text).unwrap();
        let (old, new) = (id("AROAEXAMPLEEXAMPLE222"), id("AROAOTHEROTHEROTHER22"));
        assert!(!store.unpin(deploy.clone()).await.unwrap());
        assert!(matches!(
            store.claim([1; 32], 100, Some((deploy.clone(), old)), 0).await.unwrap(),
            SingleUseOutcome::Recorded(_)
        ));
        let again =
            store.claim([2; 32], 100, Some((deploy.clone(), new.clone())), 0).await.unwrap();
        assert!(matches!(again, SingleUseOutcome::PinnedToAnother));
        assert!(store.unpin(deploy.clone()).await.unwrap());
        assert!(matches!(
            store.claim([3; 32], 100, Some((deploy.clone(), new.clone())), 0).await.unwrap(),
            SingleUseOutcome::Recorded(_)
        ));
        assert_eq!(store.principal_state(vec![deploy]).await.unwrap().pin, Pin::Pinned(new));
    }

    #[tokio::test]
    async fn a_row_that_names_nothing_revokes_nothing_and_the_others_do() {
        let (_folder, store) = opened();
        store
            .write(|transaction| {
                transaction
                    .execute_batch(
                        "INSERT INTO revoked_tokens VALUES ('x', 5);
                         INSERT INTO revoked_principals VALUES ('x|.*', 5), ('aws:111122223333:role/deploy', 6);",
                    )
                    .map_err(database_error)
            })
            .await
            .unwrap();
        let revocations = store.revocations().await.unwrap();
        assert!(revocations.tokens.is_empty());
        assert_eq!(revocations.principals.len(), 1);
    }
}
