//! Creates the KMS key for a trial, if it is missing, and checks the key.

use super::Kms;
use crate::{StoreError, StoreErrorKind};

impl Kms {
    /// Checks that the key exists and is enabled.
    pub(crate) async fn diagnose(&self) -> Result<(), StoreError> {
        let found = self.key_state().await?;
        match found {
            None => {
                Err(StoreError::misconfigured(format!("KMS key `{}` does not exist", self.key_id)))
            }
            Some(false) => {
                Err(StoreError::misconfigured(format!("KMS key `{}` is not enabled", self.key_id)))
            }
            Some(true) => Ok(()),
        }
    }

    /// Creates the key if it is missing. Returns whether it did.
    ///
    /// It creates a key only for an alias, `alias/…`, because a caller cannot choose the id of a
    /// key.
    pub(crate) async fn create_if_missing(&self) -> Result<bool, StoreError> {
        let key = &self.key_id;
        let failed = || format!("cannot create KMS key `{key}`");
        if self.key_state().await?.is_some() {
            return Ok(false);
        }
        if !key.starts_with("alias/") {
            return Err(StoreError::misconfigured(format!(
                "KMS key `{key}` does not exist; hint: to create one, pass an alias such as `alias/stile`"
            )));
        }
        let creating = self
            .client
            .create_key()
            .description("Stile: encrypts the keyring of a registry")
            .send();
        let created =
            Box::pin(creating).await.map_err(|error| StoreError::unavailable(failed(), error))?;
        let id = created.key_metadata.map(|created| created.key_id).ok_or_else(|| {
            StoreError::new(
                StoreErrorKind::Unavailable,
                "the answer of KMS contains no id of the new key",
            )
        })?;
        let naming = self.client.create_alias().alias_name(key).target_key_id(&id).send();
        Box::pin(naming).await.map_err(|error| StoreError::unavailable(failed(), error))?;
        let rotating = self.client.enable_key_rotation().key_id(&id).send();
        Box::pin(rotating).await.map_err(|error| StoreError::unavailable(failed(), error))?;
        Ok(true)
    }

    /// Returns whether the key is enabled. `None` if it does not exist.
    async fn key_state(&self) -> Result<Option<bool>, StoreError> {
        match Box::pin(self.client.describe_key().key_id(&self.key_id).send()).await {
            Ok(answer) => Ok(answer.key_metadata.map(|key| key.enabled)),
            Err(error)
                if error.as_service_error().is_some_and(|error| error.is_not_found_exception()) =>
            {
                Ok(None)
            }
            Err(error) => Err(StoreError::unavailable(
                format!("cannot reach KMS key `{}`", self.key_id),
                error,
            )),
        }
    }
}
