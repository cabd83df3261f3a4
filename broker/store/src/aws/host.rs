//! Which registry the table is for: one row, so that brokers need not be told the host one by one.
//!
//! The row is never written by a broker: whoever makes the table does, once, and no request has a way to it.

use stile_protocol::audience::Audience;

use super::Aws;
use super::keyring;
use super::retry::Retry;
use super::table::{Key, Row, Write, Written, read_text, text};
use crate::{HostKept, StoreError};

/// The one attribute of the row.
const HOST: &str = "host";

/// Where it is kept.
pub(super) fn key() -> Key {
    Key::new("host", "host")
}

impl Aws {
    /// The host in the table; `None` where there is none, and an error where it is another than this store is for.
    pub async fn host(&self) -> Result<Option<Audience>, StoreError> {
        self.host_of(self.row(&key()).await?.as_ref())
    }

    /// The same store, for that registry.
    #[must_use]
    pub fn of(self, audience: Audience) -> Self {
        Self { audience: Some(audience), ..self }
    }

    /// Writes the host, unless one is there.
    pub async fn keep_host(&self, host: &Audience) -> Result<HostKept, StoreError> {
        let mut retry = Retry::default();
        loop {
            let rows = self.rows(&[key(), keyring::key()]).await?;
            if let Some(kept) = self.read_host(rows.get(&key()))? {
                return Ok(if kept == *host {
                    HostKept::Same
                } else {
                    HostKept::Another(kept.to_string())
                });
            }
            // Under another name, not one of the keys would open.
            if let Some(other) = rows
                .get(&keyring::key())
                .and_then(keyring::audience)
                .filter(|audience| *audience != host.as_str())
            {
                return Ok(HostKept::Another(other.to_owned()));
            }
            match self
                .transact(vec![Write::put(key(), [(HOST, text(host.as_str()))]).only_if_absent()])
                .await?
            {
                Written::Done => return Ok(HostKept::Made),
                Written::Refused(_) | Written::Conflict => retry.again().await?,
            }
        }
    }

    /// What the row says, which must not be another registry than the one this store is for.
    pub(super) fn host_of(&self, row: Option<&Row>) -> Result<Option<Audience>, StoreError> {
        let kept = self.read_host(row)?;
        match (&kept, &self.audience) {
            (Some(kept), Some(told)) if kept != told => Err(StoreError::misconfigured(format!(
                "table `{}` is for registry `{kept}`, and `--host` says `{told}`; hint: leave `--host` out",
                self.place.table
            ))),
            _ => Ok(kept),
        }
    }

    /// A row that cannot be read is no reason to go by a flag alone.
    fn read_host(&self, row: Option<&Row>) -> Result<Option<Audience>, StoreError> {
        let Some(row) = row else { return Ok(None) };
        let table = &self.place.table;
        let typed = read_text(row, HOST).ok_or_else(|| {
            StoreError::corrupt(format!(
                "the host in table `{table}` cannot be read: the row has no text `{HOST}`"
            ))
        })?;
        Audience::parse(typed).map(Some).map_err(|error| {
            StoreError::corrupt(format!("the host in table `{table}` is no registry host"))
                .caused_by(error)
        })
    }
}
