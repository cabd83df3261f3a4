//! Authenticates callers through a gateway that verified their SigV4 signature before the function.
//!
//! A principal that can invoke the function can write every field of an event. So the broker trusts
//! only the API that the operator named. This excludes other APIs and mistakes. It does not exclude
//! a principal that can invoke the function directly.

use stile_protocol::region::Partition;

use stile_core::identity::{Authenticated, Identity, Issuer, SingleUse};

use super::sigv4::AnswerError;

/// The API that the broker trusts to identify callers: its account, and its id or that of a
/// function URL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IamSource {
    account: String,
    api: String,
}

/// The error for a text that does not name an API.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "it must be a 12-digit account, `/` and the id of an API or function URL, for example `111122223333/abcdef1234`"
)]
pub struct IamSourceError;

impl IamSource {
    /// Parses a text of the form `111122223333/abcdef1234`.
    pub fn parse(text: &str) -> Result<Self, IamSourceError> {
        let (account, api) = text.split_once('/').ok_or(IamSourceError)?;
        let digits = account.len() == 12 && account.bytes().all(|b| b.is_ascii_digit());
        let id = (1..=64).contains(&api.len())
            && api.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
        if digits && id {
            Ok(Self { account: account.to_owned(), api: api.to_owned() })
        } else {
            Err(IamSourceError)
        }
    }

    /// Returns the caller of an event, if the event is from this API and has a signed request.
    pub fn caller_of(&self, event: UnverifiedContext) -> Option<GatewayCaller> {
        if event.account.as_deref() != Some(&self.account)
            || event.api.as_deref() != Some(&self.api)
        {
            return None;
        }
        let (Some(arn), Some(user_id), Some(caller_id), Some(account)) =
            (event.caller_arn, event.caller_user_id, event.caller_id, event.caller_account)
        else {
            return None;
        };
        Some(GatewayCaller { arn, user_id, caller_id, account })
    }
}

/// The request context of an event, before the broker knows that it is from the trusted API.
#[derive(Debug, Clone, Default)]
pub struct UnverifiedContext {
    /// The account of the API.
    pub account: Option<String>,
    /// The id of the API or of the function URL.
    pub api: Option<String>,
    /// The ARN of the caller.
    pub caller_arn: Option<String>,
    /// The user id of the caller: its unique id and, for a role, `:` and the session name.
    pub caller_user_id: Option<String>,
    /// The id of the signer, in the same form.
    pub caller_id: Option<String>,
    /// The account of the caller.
    pub caller_account: Option<String>,
}

/// A caller for whom the trusted API vouches. Only [`IamSource::caller_of`] creates one.
#[derive(Debug, Clone)]
pub struct GatewayCaller {
    arn: String,
    user_id: String,
    caller_id: String,
    account: String,
}

impl GatewayCaller {
    /// Returns the identity of the caller, after the same checks as for an answer of STS.
    pub fn identify(&self, partitions: &[Partition]) -> Result<Authenticated, AnswerError> {
        let identity = Identity::from_iam(
            Issuer::Gateway,
            &self.account,
            &self.arn,
            &self.user_id,
            partitions,
        )?;
        let id = |text: &str| text.split(':').next().map(str::to_owned);
        if id(&self.user_id) != id(&self.caller_id) {
            return Err(AnswerError::Inconsistent("it contains the ids of two callers"));
        }
        Ok(Authenticated { identity, single_use: SingleUse::ByIssuer })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ARN: &str = "arn:aws:sts::111122223333:assumed-role/deploy/i-0abc";
    const ID: &str = "AROAEXAMPLEEXAMPLE222:i-0abc";

    fn context() -> UnverifiedContext {
        let some = |text: &str| Some(text.to_owned());
        UnverifiedContext {
            account: some("111122223333"),
            api: some("abcdef1234"),
            caller_arn: some(ARN),
            caller_user_id: some(ID),
            caller_id: some(ID),
            caller_account: some("111122223333"),
        }
    }

    fn identify(event: UnverifiedContext) -> Result<Identity, AnswerError> {
        let source = IamSource::parse("111122223333/abcdef1234").unwrap();
        source.caller_of(event).unwrap().identify(&[Partition::Aws]).map(|caller| caller.identity)
    }

    #[test]
    fn a_text_that_does_not_name_an_api_is_rejected() {
        for text in [
            "",
            "/",
            "111122223333",
            "111122223333/",
            "/abcdef1234",
            "11112222333/abcdef1234",
            "111122223333/*",
            "111122223333/ABCDEF1234",
            "111122223333/abc/def",
            " 111122223333/abcdef1234",
            "*/abcdef1234",
        ] {
            assert_eq!(IamSource::parse(text), Err(IamSourceError), "{text:?}");
        }
    }

    #[test]
    fn only_a_complete_context_from_the_named_api_has_a_caller() {
        let source = IamSource::parse("111122223333/abcdef1234").unwrap();
        let some = |text: &str| Some(text.to_owned());
        for (what, event) in [
            ("nothing", UnverifiedContext::default()),
            ("another account", UnverifiedContext { account: some("444455556666"), ..context() }),
            ("no account", UnverifiedContext { account: None, ..context() }),
            ("another API", UnverifiedContext { api: some("abcdef1235"), ..context() }),
            (
                "an API id in another case",
                UnverifiedContext { api: some("ABCDEF1234"), ..context() },
            ),
            ("no API", UnverifiedContext { api: None, ..context() }),
            ("no ARN", UnverifiedContext { caller_arn: None, ..context() }),
            ("no unique id", UnverifiedContext { caller_user_id: None, ..context() }),
            ("no caller id", UnverifiedContext { caller_id: None, ..context() }),
            ("no caller's account", UnverifiedContext { caller_account: None, ..context() }),
        ] {
            assert!(source.caller_of(event).is_none(), "{what}");
        }
        assert!(source.caller_of(context()).is_some());
    }

    #[test]
    fn a_context_has_the_same_checks_as_an_answer_of_sts() {
        let with = |arn: &str, id: &str, account: &str| {
            let (arn, id, account) =
                (Some(arn.to_owned()), Some(id.to_owned()), Some(account.to_owned()));
            UnverifiedContext {
                caller_arn: arn,
                caller_user_id: id.clone(),
                caller_id: id,
                caller_account: account,
                ..context()
            }
        };
        for (event, expected) in [
            (with("arn:aws:iam::111122223333:root", "111122223333", "111122223333"), "root user"),
            (
                with(
                    "arn:aws:sts::111122223333:federated-user/x",
                    "111122223333:x",
                    "111122223333",
                ),
                "federated",
            ),
            (
                with(
                    "arn:aws:sts::111122223333:assumed-role/aws:ec2-instance/i-0abc",
                    "111122223333:aws:ec2-instance:i-0abc",
                    "111122223333",
                ),
                "EC2 instance identity",
            ),
            (with("nonsense", ID, "111122223333"), "malformed"),
            (with("", "", ""), "malformed"),
            (with(ARN, ID, "444455556666"), "different account"),
            (
                with("arn:aws-cn:sts::111122223333:assumed-role/deploy/i-0abc", ID, "111122223333"),
                "different partitions",
            ),
            (with(ARN, "AROAEXAMPLEEXAMPLE222:other", "111122223333"), "different sessions"),
            (with(ARN, "AIDAEXAMPLEEXAMPLE222:i-0abc", "111122223333"), "different types"),
            (with(ARN, "AROA:i-0abc", "111122223333"), "malformed"),
            (
                UnverifiedContext {
                    caller_id: Some("AROAOTHEROTHEROTHER22:i-0abc".to_owned()),
                    ..context()
                },
                "two callers",
            ),
        ] {
            let error = identify(event).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
        let caller = identify(context()).unwrap();
        assert_eq!(caller.principal().as_str(), "aws:111122223333:role/deploy");
        assert_eq!(
            (caller.unique_id().unwrap().as_str(), caller.session()),
            ("AROAEXAMPLEEXAMPLE222", Some("i-0abc"))
        );
    }
}
