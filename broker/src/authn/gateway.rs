//! Believes a gateway that has verified SigV4 itself: the other way to a [`Identity`], where AWS stands before the function.
//!
//! Whoever may invoke the function can write a whole event. So nothing of one is believed unless it comes from the API
//! that the operator named, which keeps out other APIs and mistakes, and cannot keep out who may invoke the function.

use stile_protocol::region::Partition;

use stile_core::identity::{Authenticated, Identity, Issuer, SingleUse};

use super::sigv4::AnswerError;

/// The one API whose word on its callers counts: its account, and its id or that of a function URL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IamSource {
    account: String,
    api: String,
}

/// Why a text names no API.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "an account's 12 digits, `/` and an API id or function URL id are needed, such as `111122223333/abcdef1234`"
)]
pub struct IamSourceError;

impl IamSource {
    /// Reads `111122223333/abcdef1234`.
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

    /// The caller of an event, if it is from this API and somebody signed the request it tells of.
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

/// What the request context of an event says; nobody has vouched for it yet.
#[derive(Debug, Clone, Default)]
pub struct UnverifiedContext {
    /// The account of the API.
    pub account: Option<String>,
    /// The API's id, or the function URL's.
    pub api: Option<String>,
    /// The ARN of whoever signed the request.
    pub caller_arn: Option<String>,
    /// Its unique id, with the session's name behind `:` for a role; what is authorised.
    pub caller_user_id: Option<String>,
    /// The same of whoever signed.
    pub caller_id: Option<String>,
    /// Its account.
    pub caller_account: Option<String>,
}

/// Who called, by the word of the API that the operator named. Made only by [`IamSource::caller_of`].
#[derive(Debug, Clone)]
pub struct GatewayCaller {
    arn: String,
    user_id: String,
    caller_id: String,
    account: String,
}

impl GatewayCaller {
    /// The caller's identity, under every check that STS's answer is under.
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
            return Err(AnswerError::Inconsistent("it speaks of two callers"));
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
    fn what_names_no_api_is_refused() {
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
    fn only_the_named_api_is_believed_and_only_about_who_signed() {
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
    fn a_context_is_under_the_same_checks_as_an_answer_of_sts() {
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
