//! Grants and pins as rows.

use rusqlite::types::Value;
use rusqlite::{Connection, OptionalExtension, params};
use serde_json::Value as Json;
use stile_core::critical;
use stile_core::grants::{Grant, GrantNamespace, Pin};
use stile_core::principal::{Principal, UniqueId};
use stile_protocol::names::Permissions;

use super::{Sqlite, database_error, number, revision, rows, text};
use crate::StoreError;
use crate::records::aws_groups::{MAX_ROWS, too_many};
use crate::records::grants_page::{Found, GrantsPage, Source};
use crate::records::model::{PrincipalGrants, Revision, StoredGrant};

/// The `SELECT` of the columns that [`stored`] reads.
const SELECT: &str = "SELECT principal, namespace, permissions, expires_at, created_by, created_at, crit FROM grants";

/// The column names that a `crit` of a row may contain.
const KNOWN: [&str; 6] =
    ["principal", "namespace", "permissions", "expires_at", "created_by", "created_at"];

impl Sqlite {
    /// Reads everything that a change of the principal's grants depends on.
    pub(crate) async fn principal_grants(
        &self,
        principal: &Principal,
    ) -> Result<PrincipalGrants, StoreError> {
        let principal = principal.clone();
        self.read(move |connection| {
            let snapshot = connection.unchecked_transaction().map_err(database_error)?;
            let found = rows_of(&snapshot, &principal)?;
            Ok(PrincipalGrants {
                revision: revision(&found),
                grants: found.iter().map(|row| stored(row)).collect(),
                same_name: same_name(&snapshot, &principal)?,
                pin: pin_of(&snapshot, &principal)?,
            })
        })
        .await
    }

    /// Returns grants in order: all, those of a principal, or those on a namespace.
    pub(crate) async fn grants(
        &self,
        principal: Option<Principal>,
        namespace: Option<GrantNamespace>,
    ) -> Result<Vec<StoredGrant>, StoreError> {
        self.read(move |connection| {
            let principal = principal.as_ref().map(Principal::as_str);
            let namespace = namespace.as_ref().map(ToString::to_string);
            // A statement for each, so that each uses its index.
            let filter = match (principal, &namespace) {
                (Some(_), Some(_)) => "principal = ?1 AND namespace = ?2",
                (Some(_), None) => "principal = ?1 AND ?2 IS NULL",
                (None, Some(_)) => "namespace = ?2 AND ?1 IS NULL",
                (None, None) => "?1 IS NULL AND ?2 IS NULL",
            };
            let sql = format!("{SELECT} WHERE {filter} ORDER BY principal, namespace");
            let found = rows(connection, &sql, params![principal, namespace])?;
            Ok(found.iter().map(|row| stored(row)).collect())
        })
        .await
    }

    /// Returns the principals with a grant whose text begins with one of these.
    pub(crate) async fn granted_principals(
        &self,
        starts: Vec<String>,
    ) -> Result<Vec<String>, StoreError> {
        self.read(move |connection| {
            let mut principals = Vec::new();
            for start in &starts {
                // Texts are compared by their bytes, and no principal has a byte above `~`.
                let end = format!("{start}\u{7f}");
                let sql = "SELECT principal FROM grants WHERE principal >= ?1 AND principal < ?2 LIMIT ?3";
                let limit = i64::try_from(MAX_ROWS).unwrap_or(i64::MAX).saturating_add(1);
                let found = rows(connection, sql, params![start, end, limit])?;
                if found.len() > MAX_ROWS {
                    too_many(start);
                }
                let found = found.iter().filter_map(|row| text(row.first()).map(str::to_owned));
                principals.extend(found.take(MAX_ROWS));
            }
            Ok(principals)
        })
        .await
    }

    /// Returns one page of grants, in order.
    pub(crate) async fn grants_page(&self, page: GrantsPage) -> Result<Found, StoreError> {
        self.read(move |connection| {
            let (filter, of) = match &page.source {
                Source::Principal(principal) => ("principal = ?1", principal.to_string()),
                Source::Namespace(namespace) => ("namespace = ?1", namespace.to_string()),
                Source::All => ("?1 = ''", String::new()),
            };
            let (after, on) = page.after.as_ref().map_or_else(Default::default, |after| {
                (after.principal.to_string(), after.namespace.to_string())
            });
            let sql = format!(
                "{SELECT} WHERE {filter} AND (principal, namespace) > (?2, ?3) ORDER BY principal, namespace"
            );
            let mut statement = connection.prepare_cached(&sql).map_err(database_error)?;
            let columns = statement.column_count();
            let mut rows = statement.query(params![of, after, on]).map_err(database_error)?;
            let mut collected = page.collect();
            // Read row by row, because a bearer can see few of them, and a page is short.
            while let Some(row) = rows.next().map_err(database_error)? {
                let row: rusqlite::Result<Vec<Value>> =
                    (0..columns).map(|at| row.get::<_, Value>(at)).collect();
                if collected.add(stored(&row.map_err(database_error)?)) {
                    break;
                }
            }
            Ok(collected.finish())
        })
        .await
    }
}

/// Returns the grants of one principal, and their revision.
pub(super) fn of_principal(
    connection: &Connection,
    principal: &Principal,
) -> Result<(Vec<StoredGrant>, Revision), StoreError> {
    let found = rows_of(connection, principal)?;
    Ok((found.iter().map(|row| stored(row)).collect(), revision(&found)))
}

/// Returns the current revision of a principal's grants.
pub(super) fn revision_of(
    connection: &Connection,
    principal: &Principal,
) -> Result<Revision, StoreError> {
    Ok(revision(&rows_of(connection, principal)?))
}

fn rows_of(connection: &Connection, principal: &Principal) -> Result<Vec<Vec<Value>>, StoreError> {
    let sql = format!("{SELECT} WHERE principal = ?1 ORDER BY namespace");
    rows(connection, &sql, [principal.as_str()])
}

/// Returns a principal with grants whose name is the same or differs only by case. It prefers
/// another principal to the given one.
pub(super) fn same_name(
    connection: &Connection,
    principal: &Principal,
) -> Result<Option<String>, StoreError> {
    connection
        .query_row(
            "SELECT principal FROM grants WHERE folded = ?1 ORDER BY principal = ?2 LIMIT 1",
            params![principal.folded(), principal.as_str()],
            |row| row.get(0),
        )
        .optional()
        .map_err(database_error)
}

fn stored(row: &[Value]) -> StoredGrant {
    let name = |at| text(row.get(at)).unwrap_or_default().to_owned();
    StoredGrant { who: name(0), on: name(1), grant: grant(row), raw: Json::Null }
}

fn grant(row: &[Value]) -> Option<Grant> {
    // A `crit` that is not a list of names is not understood, either.
    let crit = match row.get(6) {
        None | Some(Value::Null) => None,
        crit => {
            Some(text(crit).and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default())
        }
    };
    if !critical::understood(crit.as_ref(), &KNOWN) {
        return None;
    }
    Some(Grant {
        principal: Principal::parse_stored(text(row.first())?).ok()?,
        namespace: text(row.get(1))?.parse().ok()?,
        permissions: Permissions::from_bits(number(row.get(2))?.try_into().ok()?)
            .filter(|permissions| !permissions.is_empty())?,
        expires_at: match row.get(3) {
            Some(Value::Null) => None,
            end => Some(number(end)?),
        },
        created_by: text(row.get(4))?.to_owned(),
        created_at: number(row.get(5))?,
    })
}

/// Returns the pin of a role or user.
pub(super) fn pin_of(connection: &Connection, principal: &Principal) -> Result<Pin, StoreError> {
    let row = connection
        .query_row("SELECT unique_id FROM pins WHERE principal = ?1", [principal.as_str()], |row| {
            row.get::<_, Option<String>>(0)
        })
        .optional()
        .map_err(database_error)?;
    match row {
        None => Ok(Pin::Unpinned),
        Some(None) => Ok(Pin::Disabled),
        // An invalid id is an error. If it counted as no pin, every role of that name would have
        // the grants.
        Some(Some(text)) => UniqueId::parse(&text).map(Pin::Pinned).ok_or_else(|| {
            StoreError::corrupt(format!("cannot read the pinned unique id of `{principal}`"))
        }),
    }
}
