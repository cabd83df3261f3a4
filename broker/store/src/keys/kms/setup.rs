//! Makes the KMS key where it is missing, for a trial; and checks the key, whoever made it.

use super::Kms;
use crate::{StoreError, StoreErrorKind};

impl Kms {
    /// Whether the key is there and can be used.
    pub(crate) async fn diagnose(&self) -> Result<(), StoreError> {
        let found = self.key_state().await?;
        match found {
            None => {
                Err(StoreError::misconfigured(format!("there is no KMS key `{}`", self.key_id)))
            }
            Some(false) => {
                Err(StoreError::misconfigured(format!("KMS key `{}` is not enabled", self.key_id)))
            }
            Some(true) => Ok(()),
        }
    }

    /// Makes the key where it is missing; whether it was. A key is made only under an alias, `alias/…`: an id is not for
    /// the caller to choose.
    pub(crate) async fn make(&self) -> Result<bool, StoreError> {
        let key = &self.key_id;
        let failed = || format!("KMS key `{key}` cannot be made");
        if self.key_state().await?.is_some() {
            return Ok(false);
        }
        if !key.starts_with("alias/") {
            return Err(StoreError::misconfigured(format!(
                "there is no KMS key `{key}`; hint: name an alias, as in `alias/stile`, to have one made"
            )));
        }
        let creating = self
            .client
            .create_key()
            .description("Stile: encrypts the keyring of a registry")
            .send();
        let made =
            Box::pin(creating).await.map_err(|error| StoreError::unavailable(failed(), error))?;
        let id = made.key_metadata.map(|made| made.key_id).ok_or_else(|| {
            StoreError::new(StoreErrorKind::Unavailable, "KMS made a key and did not say which")
        })?;
        let naming = self.client.create_alias().alias_name(key).target_key_id(&id).send();
        Box::pin(naming).await.map_err(|error| StoreError::unavailable(failed(), error))?;
        let rotating = self.client.enable_key_rotation().key_id(&id).send();
        Box::pin(rotating).await.map_err(|error| StoreError::unavailable(failed(), error))?;
        Ok(true)
    }

    /// Whether the key is enabled; `None` where there is none.
    async fn key_state(&self) -> Result<Option<bool>, StoreError> {
        match Box::pin(self.client.describe_key().key_id(&self.key_id).send()).await {
            Ok(answer) => Ok(answer.key_metadata.map(|key| key.enabled)),
            Err(error)
                if error.as_service_error().is_some_and(|error| error.is_not_found_exception()) =>
            {
                Ok(None)
            }
            Err(error) => Err(StoreError::unavailable(
                format!("KMS key `{}` cannot be reached", self.key_id),
                error,
            )),
        }
    }
}
