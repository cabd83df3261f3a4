//! Grants as rows: made, changed, removed and listed, each in one transaction.

use rusqlite::{Connection, OptionalExtension, Row, params};
use stile_protocol::names::Permissions;

use super::mint::pin_of;
use super::{Embedded, database_error};
use crate::{Change, Created, StoreError, Updated};
use stile_core::grants::{Grant, GrantNamespace, MAX_GRANTS, Pin};
use stile_core::principal::Principal;

const COLUMNS: &str = "principal, namespace, permissions, expires_at, created_by, created_at";

impl Embedded {
    pub(crate) async fn create_grant(
        &self,
        grant: Grant,
        pin: Option<Pin>,
    ) -> Result<Created, StoreError> {
        self.write(move |transaction| {
            if let Some(existing) = find(transaction, &grant.principal, &grant.namespace)? {
                return Ok(Created::Exists(existing));
            }
            let twin: Option<String> = transaction
                .query_row(
                    "SELECT principal FROM grants WHERE folded = ?1 AND principal <> ?2 LIMIT 1",
                    params![grant.principal.folded(), grant.principal.as_str()],
                    |row| row.get(0),
                )
                .optional()
                .map_err(database_error)?;
            if let Some(twin) = twin.and_then(|text| Principal::parse_stored(&text).ok()) {
                return Ok(Created::DiffersByCase(twin));
            }
            let kept = pin_of(transaction, &grant.principal)?;
            if kept != Pin::Unpinned && pin.as_ref().is_some_and(|wanted| *wanted != kept) {
                return Ok(Created::PinnedOtherwise(kept));
            }
            let held: i64 = transaction
                .query_row("SELECT count(*) FROM grants WHERE principal = ?1", [grant.principal.as_str()], |row| row.get(0))
                .map_err(database_error)?;
            if usize::try_from(held).is_ok_and(|held| held >= MAX_GRANTS) {
                return Ok(Created::TooMany);
            }
            transaction
                .execute(
                    "INSERT INTO grants (principal, namespace, permissions, expires_at, created_by, created_at, folded) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
                    params![
                        grant.principal.as_str(),
                        grant.namespace.to_string(),
                        grant.permissions.bits(),
                        grant.expires_at,
                        grant.created_by,
                        grant.created_at,
                        grant.principal.folded()
                    ],
                )
                .map_err(database_error)?;
            let unique_id = match &pin {
                None | Some(Pin::Unpinned) => return Ok(Created::Done(grant)),
                Some(Pin::Disabled) => None,
                Some(Pin::Pinned(id)) => Some(id.as_str()),
            };
            transaction
                .execute("INSERT OR REPLACE INTO pins (principal, unique_id) VALUES (?1, ?2)", params![grant.principal.as_str(), unique_id])
                .map_err(database_error)?;
            Ok(Created::Done(grant))
        })
        .await
    }

    pub(crate) async fn update_grant(
        &self,
        principal: Principal,
        namespace: GrantNamespace,
        change: Change,
    ) -> Result<Updated, StoreError> {
        self.write(move |transaction| {
            let Some(mut grant) = find(transaction, &principal, &namespace)? else { return Ok(Updated::Absent) };
            grant.permissions = change.clear.iter().fold(grant.permissions.union(change.set), Permissions::without);
            if grant.permissions.is_empty() {
                return Ok(Updated::WouldBeEmpty);
            }
            grant.expires_at = change.expires_at.or(grant.expires_at);
            transaction
                .execute(
                    "UPDATE grants SET permissions = ?3, expires_at = ?4 WHERE principal = ?1 AND namespace = ?2",
                    params![principal.as_str(), namespace.to_string(), grant.permissions.bits(), grant.expires_at],
                )
                .map_err(database_error)?;
            Ok(Updated::Done(grant))
        })
        .await
    }

    pub(crate) async fn delete_grant(
        &self,
        principal: Principal,
        namespace: GrantNamespace,
    ) -> Result<bool, StoreError> {
        self.write(move |transaction| {
            transaction
                .execute(
                    "DELETE FROM grants WHERE principal = ?1 AND namespace = ?2",
                    params![principal.as_str(), namespace.to_string()],
                )
                .map(|rows| rows > 0)
                .map_err(database_error)
        })
        .await
    }

    pub(crate) async fn grants(
        &self,
        principal: Option<Principal>,
        namespace: Option<GrantNamespace>,
    ) -> Result<Vec<Grant>, StoreError> {
        self.read(move |connection| {
            let principal = principal.as_ref().map(Principal::as_str);
            let namespace = namespace.as_ref().map(ToString::to_string);
            let sql = format!("SELECT {COLUMNS} FROM grants WHERE (?1 IS NULL OR principal = ?1) AND (?2 IS NULL OR namespace = ?2) ORDER BY principal, namespace");
            select(connection, &sql, params![principal, namespace])
        })
        .await
    }
}

/// The grants of one principal.
pub(super) fn of(connection: &Connection, principal: &Principal) -> Result<Vec<Grant>, StoreError> {
    select(
        connection,
        &format!("SELECT {COLUMNS} FROM grants WHERE principal = ?1"),
        params![principal.as_str()],
    )
}

fn find(
    connection: &Connection,
    principal: &Principal,
    namespace: &GrantNamespace,
) -> Result<Option<Grant>, StoreError> {
    let sql = format!("SELECT {COLUMNS} FROM grants WHERE principal = ?1 AND namespace = ?2");
    Ok(select(connection, &sql, params![principal.as_str(), namespace.to_string()])?.pop())
}

fn select(
    connection: &Connection,
    sql: &str,
    values: impl rusqlite::Params,
) -> Result<Vec<Grant>, StoreError> {
    let mut statement = connection.prepare_cached(sql).map_err(database_error)?;
    let rows = statement.query_map(values, |row| Ok(read(row))).map_err(database_error)?;
    let mut grants = Vec::new();
    for row in rows {
        match row.map_err(database_error)? {
            Some(grant) => grants.push(grant),
            None => tracing::error!(
                alarm = "unreadable_grant",
                "a grant in the store cannot be read and allows nothing"
            ),
        }
    }
    Ok(grants)
}

/// A row that somebody wrote by hand and that is not a grant is none; the others work.
fn read(row: &Row<'_>) -> Option<Grant> {
    Some(Grant {
        principal: Principal::parse_stored(&row.get::<_, String>(0).ok()?).ok()?,
        namespace: row.get::<_, String>(1).ok()?.parse().ok()?,
        permissions: Permissions::from_bits(row.get(2).ok()?)
            .filter(|permissions| !permissions.is_empty())?,
        expires_at: row.get(3).ok()?,
        created_by: row.get(4).ok()?,
        created_at: row.get(5).ok()?,
    })
}

#[cfg(test)]
mod tests {
    use stile_protocol::names::Permission;

    use super::*;
    use crate::EmbeddedDeadlines;
    use stile_core::principal::UniqueId;

    #[tokio::test]
    async fn a_pin_is_never_set_over_another() {
        let folder = tempfile::tempdir().unwrap();
        Embedded::init(folder.path(), EmbeddedDeadlines::default()).unwrap();
        let store = Embedded::open(folder.path(), EmbeddedDeadlines::default()).unwrap();
        let grant = |namespace: &str| Grant {
            principal: Principal::parse_stored("aws:111122223333:role/deploy").unwrap(),
            namespace: namespace.parse().unwrap(),
            permissions: Permissions::NONE.with(Permission::Download),
            expires_at: None,
            created_by: "test".to_owned(),
            created_at: 0,
        };
        let id = |text: &str| Pin::Pinned(UniqueId::parse(text).unwrap());
        let first = id("AROAEXAMPLEEXAMPLE222");
        assert_eq!(
            store.create_grant(grant("prod"), Some(first.clone())).await.unwrap(),
            Created::Done(grant("prod"))
        );
        for other in [Pin::Disabled, id("AROAOTHEROTHEROTHER22")] {
            let created = store.create_grant(grant("sandbox"), Some(other)).await.unwrap();
            assert_eq!(created, Created::PinnedOtherwise(first.clone()));
        }
        assert_eq!(store.grants(None, None).await.unwrap().len(), 1);
        for same in [None, Some(first)] {
            let namespace = if same.is_some() { "same" } else { "none" };
            assert_eq!(
                store.create_grant(grant(namespace), same).await.unwrap(),
                Created::Done(grant(namespace))
            );
        }
    }
}
