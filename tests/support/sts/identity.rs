//! Creates throw-away AWS credentials, with the account, ARN and unique id that STS returns for
//! them.
//!
//! Keys are random, so tests never share a key. The unique id depends on the name only, as in AWS.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest as _, Sha256};
use stile_protocol::region::Partition;

/// Credentials and their owner. They are valid only for an STS to which a test adds them.
#[derive(Clone, PartialEq, Eq)]
pub struct Identity {
    /// `ASIA…` with a session token, otherwise `AKIA…`.
    pub access_key_id: String,
    /// The secret key: 40 characters.
    pub secret_access_key: String,
    /// The session token of temporary credentials.
    pub session_token: Option<String>,
    /// The account: 12 digits.
    pub account: String,
    /// The ARN, as `GetCallerIdentity` returns it.
    pub arn: String,
    /// The user id: `AROA…:session` of a role, `AIDA…` of a user.
    pub user_id: String,
    /// The time from which STS answers `ExpiredToken`, in Unix seconds.
    pub expires_at: Option<i64>,
}

impl Identity {
    /// Creates credentials of a session of a role.
    pub fn role(account: &str, role: &str, session: &str) -> Self {
        let id = unique_id("AROA", &format!("{account}:role/{role}"));
        let arn = format!("arn:aws:sts::{account}:assumed-role/{role}/{session}");
        Self::temporary(account, arn, format!("{id}:{session}"))
    }

    /// Creates a long-lived key of an IAM user.
    pub fn user(account: &str, name: &str) -> Self {
        Self {
            access_key_id: format!("AKIA{}", base32(&random::<16>())),
            session_token: None,
            ..Self::temporary(
                account,
                format!("arn:aws:iam::{account}:user/{name}"),
                unique_id("AIDA", &format!("{account}:user/{name}")),
            )
        }
    }

    /// Creates temporary credentials for exactly this ARN and this id, which may be invalid.
    pub fn temporary(account: &str, arn: impl Into<String>, user_id: impl Into<String>) -> Self {
        Self {
            access_key_id: format!("ASIA{}", base32(&random::<16>())),
            secret_access_key: STANDARD.encode(random::<30>()),
            session_token: Some(STANDARD.encode(random::<256>())),
            account: account.to_owned(),
            arn: arn.into(),
            user_id: user_id.into(),
            expires_at: None,
        }
    }

    /// Moves the identity to another partition.
    #[must_use]
    pub fn in_partition(self, partition: Partition) -> Self {
        Self { arn: self.arn.replacen("arn:aws:", &format!("arn:{partition}:"), 1), ..self }
    }

    /// Returns the role or user after AWS deleted it and created it again.
    ///
    /// It has the same name, new keys and another unique id.
    #[must_use]
    pub fn recreated(self) -> Self {
        let (id, session) = match self.user_id.split_once(':') {
            Some((id, session)) => (id, format!(":{session}")),
            None => (self.user_id.as_str(), String::new()),
        };
        let user_id = format!("{}{session}", unique_id(&id[..4], id));
        self.renewed_as(user_id)
    }

    /// Returns the same principal with new keys.
    #[must_use]
    pub fn renewed(self) -> Self {
        let user_id = self.user_id.clone();
        self.renewed_as(user_id)
    }

    /// Sets the time at which the credentials expire.
    #[must_use]
    pub fn expiring_at(self, at: i64) -> Self {
        Self { expires_at: Some(at), ..self }
    }

    /// Returns the name of the role or user, without the session name.
    pub fn name(&self) -> &str {
        let mut parts = self.arn.split('/');
        let name =
            if self.arn.contains(":assumed-role/") { parts.nth(1) } else { parts.next_back() };
        name.unwrap_or_default()
    }

    /// Returns the environment variables with these credentials.
    pub fn environment(&self, region: &str) -> Vec<(&'static str, String)> {
        let mut variables = vec![
            ("AWS_ACCESS_KEY_ID", self.access_key_id.clone()),
            ("AWS_SECRET_ACCESS_KEY", self.secret_access_key.clone()),
            ("AWS_REGION", region.to_owned()),
        ];
        variables.extend(self.session_token.clone().map(|token| ("AWS_SESSION_TOKEN", token)));
        variables
    }

    fn renewed_as(self, user_id: String) -> Self {
        let fresh = Self::temporary(&self.account, self.arn, user_id);
        if self.session_token.is_some() {
            return Self { expires_at: self.expires_at, ..fresh };
        }
        Self {
            access_key_id: fresh.access_key_id.replacen("ASIA", "AKIA", 1),
            session_token: None,
            ..fresh
        }
    }
}

impl std::fmt::Debug for Identity {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Identity")
            .field("access_key_id", &self.access_key_id)
            .field("arn", &self.arn)
            .finish_non_exhaustive()
    }
}

fn unique_id(prefix: &str, of: &str) -> String {
    format!("{prefix}{}", &base32(&Sha256::digest(of.as_bytes()))[..17])
}

fn base32(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
    bytes.iter().map(|byte| char::from(ALPHABET[usize::from(byte % 32)])).collect()
}

fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).unwrap();
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identity_shows_no_secret_in_debug() {
        let identity = Identity::role("111122223333", "deploy", "alice");
        let shown = format!("{identity:?}");
        assert!(
            !shown.contains(&identity.secret_access_key)
                && !shown.contains(identity.session_token.as_deref().unwrap())
        );
    }

    #[test]
    fn a_role_and_a_user_have_the_forms_of_aws() {
        let role = Identity::role("111122223333", "deploy", "alice");
        assert!(role.access_key_id.starts_with("ASIA") && role.access_key_id.len() == 20);
        assert_eq!(role.arn, "arn:aws:sts::111122223333:assumed-role/deploy/alice");
        assert!(
            role.user_id.starts_with("AROA")
                && role.user_id.ends_with(":alice")
                && role.user_id.len() == 27
        );
        assert_eq!(role.secret_access_key.len(), 40);
        assert_eq!(role.name(), "deploy");
        let user = Identity::user("111122223333", "bob");
        assert!(user.access_key_id.starts_with("AKIA") && user.session_token.is_none());
        assert_eq!((user.arn.as_str(), user.name()), ("arn:aws:iam::111122223333:user/bob", "bob"));
        assert!(user.user_id.starts_with("AIDA") && user.user_id.len() == 21);
        assert_eq!(
            role.in_partition(Partition::AwsCn).arn,
            "arn:aws-cn:sts::111122223333:assumed-role/deploy/alice"
        );
    }

    #[test]
    fn the_unique_id_belongs_to_the_name_until_it_is_created_again() {
        let id = |identity: &Identity| identity.user_id.split(':').next().unwrap().to_owned();
        let first = Identity::role("111122223333", "deploy", "alice");
        let second = Identity::role("111122223333", "deploy", "bob");
        assert_eq!(id(&first), id(&second));
        assert_ne!(first.access_key_id, second.access_key_id);
        let renewed = first.clone().renewed();
        assert_eq!((&renewed.user_id, &renewed.arn), (&first.user_id, &first.arn));
        assert_ne!(renewed.secret_access_key, first.secret_access_key);
        let recreated = first.clone().recreated();
        assert_eq!(recreated.arn, first.arn);
        assert_ne!(id(&recreated), id(&first));
        assert!(recreated.user_id.starts_with("AROA") && recreated.user_id.ends_with(":alice"));
        let user = Identity::user("111122223333", "bob").recreated();
        assert!(
            user.access_key_id.starts_with("AKIA")
                && user.session_token.is_none()
                && user.user_id.starts_with("AIDA")
        );
    }
}
