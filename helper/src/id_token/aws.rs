//! Gets a JWT from AWS about the caller's own identity, by `sts:GetWebIdentityToken`.
//!
//! <https://docs.aws.amazon.com/STS/latest/APIReference/API_GetWebIdentityToken.html>

use aws_config::{BehaviorVersion, Region};
use aws_sdk_sts::error::ProvideErrorMetadata as _;
use secrecy::SecretString;

use super::{IdTokenError, is_jwt};
use crate::call;
use crate::config::Environment;
use crate::credentials::LoadedCredentials;
use crate::message;

/// The lifetime of the JWT, in seconds. It is sent at once, so the shortest usual one is enough.
const DURATION: i32 = 300;

/// The signature: ECDSA with P-384. STS also offers RSA, whose JWTs are longer.
const ALGORITHM: &str = "ES384";

/// The codes with which AWS refuses an identity that has no permission for the call.
const DENIED: [&str; 2] = ["AccessDenied", "AccessDeniedException"];

/// Asks the STS of the credentials' region for a JWT for a registry.
///
/// The SDK uses the regional endpoint, because the global one does not have this operation.
pub async fn web_identity(
    audience: &str,
    loaded: &LoadedCredentials,
    profile: Option<&str>,
    environment: &Environment,
) -> Result<SecretString, IdTokenError> {
    let mut settings = aws_config::defaults(BehaviorVersion::latest())
        .region(Region::new(loaded.region.clone()))
        .credentials_provider(loaded.credentials.clone())
        .use_fips(loaded.fips);
    if let Some(profile) = profile.or_else(|| environment.profile_override()) {
        settings = settings.profile_name(profile);
    }
    let client = aws_sdk_sts::Client::new(&settings.load().await);
    let asked = client
        .get_web_identity_token()
        .audience(audience)
        .duration_seconds(DURATION)
        .signing_algorithm(ALGORITHM)
        .send();
    let limit = call::timeout(environment);
    let Ok(answer) = tokio::time::timeout(limit, asked).await else {
        let text = format!("STS of `{}` did not respond in time", loaded.region);
        return Err(IdTokenError::Aws(text));
    };
    let answer = answer.map_err(|error| {
        let refused = error.as_service_error();
        if refused.is_some_and(|it| it.is_outbound_web_identity_federation_disabled_exception()) {
            return IdTokenError::FederationDisabled;
        }
        let said = error.message().map(message::one_line);
        match (error.code(), said) {
            (Some(code), Some(said)) if DENIED.contains(&code) => IdTokenError::AwsDenied(said),
            (Some(code), said) => {
                IdTokenError::Aws(format!("{code}: {}", said.unwrap_or_default()))
            }
            (None, _) => IdTokenError::Aws(message::chain(&error)),
        }
    })?;
    match answer.web_identity_token {
        Some(jwt) if is_jwt(&jwt) => Ok(jwt.into()),
        _ => Err(IdTokenError::NotAJwt("the response of AWS STS".to_owned())),
    }
}
