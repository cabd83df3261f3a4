//! The table of signed heads, and the deletion of expired events.

use rusqlite::params;
use stile_core::audit::{Chain, HeadStatement, SignedHead};

use super::{Sqlite, database_error, number, rows, sql_number, text};
use crate::StoreError;
use crate::records::signed_heads::StoredSignedHead;

impl Sqlite {
    pub(crate) async fn audit_chain_names(&self) -> Result<Vec<String>, StoreError> {
        self.read(|connection| {
            let found = rows(connection, "SELECT chain FROM audit_heads ORDER BY chain", [])?;
            let name = |row: &Vec<_>| text(row.first()).unwrap_or_default().to_owned();
            Ok(found.iter().map(name).collect())
        })
        .await
    }

    pub(crate) async fn put_signed_head(&self, signed: &SignedHead) -> Result<(), StoreError> {
        let HeadStatement { chain, seq, segment, sealed_at, .. } = &signed.statement;
        let chain = chain.as_str().to_owned();
        let (seq, segment, is_end) = (sql_number(*seq), sql_number(*segment), sealed_at.is_some());
        let record = signed.to_json();
        self.write(move |transaction| {
            transaction
                .execute(
                    "INSERT INTO audit_signed_heads (chain, seq, record) VALUES (?1, ?2, ?3) \
                     ON CONFLICT (chain, seq) DO UPDATE SET record = excluded.record \
                     WHERE ?4 OR instr(record, '\"sealed_at\"') = 0",
                    params![chain, seq, record, is_end],
                )
                .map_err(database_error)?;
            transaction
                .execute(
                    "DELETE FROM audit_signed_heads WHERE chain = ?1 AND seq < ?2 AND \
                     CASE WHEN json_valid(record) THEN json_extract(record, '$.segment') END = ?3",
                    params![chain, seq, segment],
                )
                .map(drop)
                .map_err(database_error)
        })
        .await
    }

    pub(crate) async fn signed_heads(
        &self,
        chain: Option<&Chain>,
    ) -> Result<Vec<StoredSignedHead>, StoreError> {
        let chain = chain.map(|chain| chain.as_str().to_owned());
        self.read(move |connection| {
            let sql = "SELECT chain, seq, record FROM audit_signed_heads \
                       WHERE ?1 IS NULL OR chain = ?1 ORDER BY chain, seq";
            let found = rows(connection, sql, params![chain])?;
            let read = |row: &Vec<_>| {
                let seq = number(row.get(1)).and_then(|seq| u64::try_from(seq).ok());
                let chain = text(row.first()).unwrap_or_default();
                StoredSignedHead::new(chain, seq.unwrap_or_default(), text(row.get(2)))
            };
            Ok(found.iter().map(read).collect())
        })
        .await
    }

    pub(crate) async fn delete_events(
        &self,
        chain: &Chain,
        up_to: u64,
    ) -> Result<usize, StoreError> {
        let (chain, up_to) = (chain.as_str().to_owned(), sql_number(up_to));
        self.write(move |transaction| {
            transaction
                .execute(
                    "DELETE FROM audit_events WHERE chain = ?1 AND seq <= ?2",
                    params![chain, up_to],
                )
                .map_err(database_error)
        })
        .await
    }
}
