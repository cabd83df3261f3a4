//! Audit events as rows, and a row for the head of each chain.

use rusqlite::types::Value;
use rusqlite::{Connection, Transaction, params};
use stile_core::audit::{Chain, Head, Link, Segment, StoredLink};

use super::{Sqlite, database_error, number, rows, sql_number, text};
use crate::StoreError;
use crate::records::audit::{AuditPage, STRAYS, unreadable_head};

impl Sqlite {
    /// Returns the head of a chain.
    pub(crate) async fn audit_head(&self, chain: &Chain) -> Result<Head, StoreError> {
        let chain = chain.clone();
        self.read(move |connection| head(connection, &chain)).await
    }

    /// Returns the heads of all chains that have events, in order of chain.
    pub(crate) async fn audit_heads(&self) -> Result<Vec<Head>, StoreError> {
        self.read(|connection| {
            let sql = "SELECT chain, seq, hash, segment, segment_first, segment_started \
                       FROM audit_heads ORDER BY chain";
            rows(connection, sql, [])?.iter().map(|row| checked_head(row)).collect()
        })
        .await
    }

    /// Returns at most `limit` events of a chain, in order, from the first one after `after` on. The
    /// page after 0 has the keys of rows before the first event, too.
    pub(crate) async fn audit_page(
        &self,
        chain: &Chain,
        after: u64,
        limit: usize,
    ) -> Result<AuditPage, StoreError> {
        let sql = "SELECT seq, segment, body, hash FROM audit_events \
                   WHERE chain = ?1 AND seq > ?2 ORDER BY seq LIMIT ?3";
        let links = self.page(sql, chain, after, limit).await?;
        let strays = if after == 0 { self.strays(chain).await? } else { Vec::new() };
        Ok(AuditPage { links, strays })
    }

    async fn strays(&self, chain: &Chain) -> Result<Vec<String>, StoreError> {
        let chain = chain.clone();
        self.read(move |connection| {
            let sql =
                "SELECT seq FROM audit_events WHERE chain = ?1 AND seq < 1 ORDER BY seq LIMIT ?2";
            let found = rows(connection, sql, params![chain.as_str(), sql_number(STRAYS)])?;
            Ok(found.iter().filter_map(|row| Some(number(row.first())?.to_string())).collect())
        })
        .await
    }

    /// Returns at most `limit` events of a chain, the latest first, from the last one before `before`
    /// on.
    pub(crate) async fn audit_page_before(
        &self,
        chain: &Chain,
        before: u64,
        limit: usize,
    ) -> Result<Vec<StoredLink>, StoreError> {
        let sql = "SELECT seq, segment, body, hash FROM audit_events \
                   WHERE chain = ?1 AND seq < ?2 AND seq > 0 ORDER BY seq DESC LIMIT ?3";
        self.page(sql, chain, before, limit).await
    }

    async fn page(
        &self,
        sql: &'static str,
        chain: &Chain,
        from: u64,
        limit: usize,
    ) -> Result<Vec<StoredLink>, StoreError> {
        let chain = chain.clone();
        self.read(move |connection| {
            let values = params![chain.as_str(), sql_number(from), sql_number(limit)];
            Ok(rows(connection, sql, values)?.iter().map(|row| stored(row)).collect())
        })
        .await
    }
}

/// Returns the head of a chain as it is now.
pub(super) fn head(connection: &Connection, chain: &Chain) -> Result<Head, StoreError> {
    let sql = "SELECT chain, seq, hash, segment, segment_first, segment_started \
               FROM audit_heads WHERE chain = ?1";
    match rows(connection, sql, [chain.as_str()])?.first() {
        Some(row) => checked_head(row),
        None => Ok(Head::empty(chain.clone())),
    }
}

/// Returns whether a chain has an event of this number.
pub(super) fn has(connection: &Connection, chain: &Chain, seq: u64) -> Result<bool, StoreError> {
    connection
        .prepare_cached("SELECT 1 FROM audit_events WHERE chain = ?1 AND seq = ?2")
        .and_then(|mut statement| statement.exists(params![chain.as_str(), sql_number(seq)]))
        .map_err(database_error)
}

/// Adds an event, and replaces the head of its chain. It never replaces an event.
pub(super) fn append(
    transaction: &Transaction<'_>,
    link: &Link,
    after: &Head,
) -> rusqlite::Result<()> {
    let chain = after.chain.as_str();
    transaction
        .prepare_cached(
            "INSERT INTO audit_events (chain, seq, segment, body, hash) VALUES (?1, ?2, ?3, ?4, ?5)",
        )?
        .execute(params![
            chain,
            sql_number(link.seq),
            sql_number(link.segment),
            link.body,
            link.hash
        ])?;
    transaction
        .prepare_cached(
            "INSERT INTO audit_heads (chain, seq, hash, segment, segment_first, segment_started) \
             VALUES (?1, ?2, ?3, ?4, ?5, ?6) ON CONFLICT (chain) DO UPDATE SET \
             seq = excluded.seq, hash = excluded.hash, segment = excluded.segment, \
             segment_first = excluded.segment_first, segment_started = excluded.segment_started",
        )?
        .execute(params![
            chain,
            sql_number(after.seq),
            after.hash,
            sql_number(after.segment.number),
            sql_number(after.segment.first_seq),
            after.segment.started_at,
        ])
        .map(drop)
}

fn checked_head(row: &[Value]) -> Result<Head, StoreError> {
    read_head(row).ok_or_else(|| unreadable_head(text(row.first()).unwrap_or_default()))
}

fn read_head(row: &[Value]) -> Option<Head> {
    Some(Head {
        chain: Chain::parse_stored(text(row.first())?)?,
        seq: positive(row.get(1))?,
        hash: blob(row.get(2))?.try_into().ok()?,
        segment: Segment {
            number: positive(row.get(3))?,
            first_seq: positive(row.get(4))?,
            started_at: number(row.get(5))?,
        },
    })
}

fn stored(row: &[Value]) -> StoredLink {
    StoredLink {
        seq: positive(row.first()).unwrap_or_default(),
        segment: positive(row.get(1)).unwrap_or_default(),
        body: text(row.get(2)).map(str::to_owned),
        hash: blob(row.get(3)).unwrap_or_default().to_vec(),
    }
}

fn positive(value: Option<&Value>) -> Option<u64> {
    number(value)?.try_into().ok()
}

fn blob(value: Option<&Value>) -> Option<&[u8]> {
    match value {
        Some(Value::Blob(bytes)) => Some(bytes),
        _ => None,
    }
}
