//! Explains errors of AWS to operators: one sentence, and a hint.

use stile_store::{AwsCause, StoreError};
use terraform_credentials_stile::credentials::{CredentialsError, ProfileError};
use terraform_credentials_stile::message::one_line;

/// Returns the sentence and the hint for an error that AWS caused.
pub(crate) fn explained(error: &StoreError) -> Option<(String, &'static str)> {
    let (reason, hint) = match AwsCause::of(error)? {
        AwsCause::Denied(text) => (
            format!("AWS denies it: {}", one_line(&text)),
            "use the credentials of an operator, whose policy is the output `operator_policy` of `infra/registry`",
        ),
        AwsCause::Expired => (
            "the AWS credentials have expired".to_owned(),
            "sign in with `aws login` or `aws sso login`, or renew `AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY` and `AWS_SESSION_TOKEN`",
        ),
        AwsCause::UnknownCredentials => (
            "AWS does not know the access key or the session token".to_owned(),
            "test the credentials with `aws sts get-caller-identity`",
        ),
        AwsCause::WrongSignature => (
            "AWS rejects the signature".to_owned(),
            "check the secret access key, and the clock of this machine",
        ),
        AwsCause::NoSuchTable => (
            "the table does not exist in this account and region".to_owned(),
            "check `--table`, `AWS_REGION` and `AWS_PROFILE`, or create a table with `stile-admin store init`",
        ),
        AwsCause::Unreachable(cause) => (
            format!("AWS is out of reach: {}", one_line(&cause)),
            "check the network, `AWS_REGION`, and `AWS_ENDPOINT_URL` if it is set",
        ),
    };
    Some((format!("{error}: {reason}"), hint))
}

/// Returns the hint for credentials that do not load. The store on AWS has no `config.toml`, which
/// some hints of the helper name.
pub(crate) const fn credentials_hint(error: &CredentialsError) -> Option<&'static str> {
    match error {
        CredentialsError::NotFound => {
            Some("sign in with `aws login` or `aws sso login`, or set `AWS_PROFILE`")
        }
        CredentialsError::Profile(ProfileError::Missing(_)) => Some(
            "check the spelling in `AWS_PROFILE`; `aws configure list-profiles` lists the profiles",
        ),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_that_aws_did_not_cause_is_not_explained() {
        assert_eq!(explained(&StoreError::busy("too many clients")), None);
        assert_eq!(explained(&StoreError::unavailable("cannot read", "the disk")), None);
    }

    #[test]
    fn a_hint_about_credentials_names_no_file_that_the_program_does_not_read() {
        for error in [
            CredentialsError::NotFound,
            CredentialsError::Profile(ProfileError::Missing("x".to_owned())),
            CredentialsError::TimedOut,
        ] {
            let hint = credentials_hint(&error).map_or_else(|| error.hint(), str::to_owned);
            assert!(!hint.contains("config.toml"), "{error}: {hint}");
        }
    }
}
