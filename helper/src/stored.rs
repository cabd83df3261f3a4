//! Tokens of hosts that are no Stile registries, kept for `terraform login` in one private file.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use stile_protocol::audience::{Audience, AudienceError};
use terraform_credentials_stile::message;
use terraform_credentials_stile::private_file::{self, Durability, PrivateFileError};

use crate::verb::{VerbContext, VerbFailure};

/// Longest wait for another process that changes the file.
const LOCK_LIMIT: Duration = Duration::from_secs(10);

/// The file of stored tokens.
#[derive(Debug)]
pub(crate) struct StoredTokens {
    path: PathBuf,
}

impl StoredTokens {
    /// The file, or none where the platform has no folder for it.
    pub(crate) fn of(context: &VerbContext) -> Option<Self> {
        let folder = context.environment.data_folder.as_ref()?;
        Some(Self { path: folder.join("stile").join("tokens.json") })
    }

    /// The token kept for a host; a file that cannot be trusted keeps none.
    pub(crate) fn token(&self, key: &str) -> Option<String> {
        self.read().ok()?.remove(key)
    }

    /// Keeps a token in place of an earlier one.
    pub(crate) fn store(&self, key: &str, token: &str) -> Result<(), VerbFailure> {
        self.change(|tokens| {
            tokens.insert(key.to_owned(), token.to_owned()).as_deref() != Some(token)
        })
    }

    /// Drops a token; one that is not there is dropped already.
    pub(crate) fn remove(&self, key: &str) -> Result<(), VerbFailure> {
        if !self.path.exists() {
            return Ok(());
        }
        self.change(|tokens| tokens.remove(key).is_some())
    }

    fn change(
        &self,
        change: impl FnOnce(&mut BTreeMap<String, String>) -> bool,
    ) -> Result<(), VerbFailure> {
        let failed = |error: &PrivateFileError| VerbFailure::new(message::chain(error));
        let Some(_lock) = private_file::lock(&self.path, LOCK_LIMIT) else {
            return Err(VerbFailure::new(format!("`{}` cannot be locked", self.path.display())));
        };
        let mut tokens = self.read()?;
        if !change(&mut tokens) {
            return Ok(());
        }
        let bytes =
            serde_json::to_vec(&tokens).map_err(|error| VerbFailure::new(error.to_string()))?;
        private_file::write(&self.path, &bytes, Durability::Durable).map_err(|error| failed(&error))
    }

    fn read(&self) -> Result<BTreeMap<String, String>, VerbFailure> {
        let path = self.path.display();
        match private_file::read(&self.path) {
            Ok(bytes) => serde_json::from_slice(&bytes).map_err(|_| {
                VerbFailure::new(format!("`{path}` is damaged"))
                    .hint("remove it, and log in again to the hosts it was for")
            }),
            Err(PrivateFileError::NotFound(_)) => Ok(BTreeMap::new()),
            Err(error @ PrivateFileError::Untrusted { .. }) => {
                Err(VerbFailure::new(message::chain(&error))
                    .hint(format!("restrict it to its owner: `chmod 600 {path}`")))
            }
            Err(error @ (PrivateFileError::Io { .. } | PrivateFileError::TooLarge(_))) => {
                Err(VerbFailure::new(message::chain(&error)))
            }
        }
    }
}

/// The one spelling under which a host's token is kept, or none for what is no host.
///
/// A host without a dot cannot be a Stile registry, but it may be somebody's.
pub(crate) fn host_key(host: &str) -> Option<String> {
    match Audience::parse(host) {
        Ok(audience) => Some(audience.to_string()),
        Err(AudienceError::NoDot(_)) => Some(host.to_ascii_lowercase()),
        Err(AudienceError::Malformed(_)) => None,
    }
}

/// A host as it may be shown, whatever it holds.
pub(crate) fn printable(host: &str) -> String {
    message::one_line(host)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_has_one_key_and_what_is_none_has_no_key() {
        for (host, expected) in [
            ("", None),
            ("a b", None),
            ("../x", None),
            ("[::1]:8443", None),
            ("App.Terraform.io", Some("app.terraform.io")),
            ("app.terraform.io:443", Some("app.terraform.io")),
            ("localhost:8080", Some("localhost:8080")),
        ] {
            assert_eq!(host_key(host).as_deref(), expected, "{host:?}");
        }
    }
}
