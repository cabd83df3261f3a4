//! Classifies why AWS did not do what a call asked for, so that a program can say what to do.

use std::error::Error;
use std::io;
use std::iter::successors;

use aws_sdk_dynamodb::error::{ConnectorError, ErrorMetadata, SdkError};
use aws_sdk_dynamodb::operation::transact_write_items::TransactWriteItemsError;
use aws_sdk_dynamodb::types::error::ResourceNotFoundException;

use crate::StoreError;

/// The text of the SDK's error about an answer that it cannot read. Its type differs for each call.
const RESPONSE_ERROR: &str = "response error";

/// Why AWS did not do what a call asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AwsCause {
    /// The caller's policies do not allow the call. The text of AWS names the caller and the action.
    Denied(String),
    /// The credentials have expired.
    Expired,
    /// AWS does not know the access key or the session token.
    UnknownCredentials,
    /// The signature is wrong: by another secret, or at another time.
    WrongSignature,
    /// The table does not exist.
    NoSuchTable,
    /// No connection was made, or it broke, for this innermost reason.
    Unreachable(String),
}

impl AwsCause {
    /// Returns the cause of an error. `None` if AWS did not cause it, or gave a rare reason.
    pub fn of(error: &StoreError) -> Option<Self> {
        chain(error.source()?).find_map(Self::of_one)
    }

    /// Returns whether the policies of the caller do not allow a write to the table.
    ///
    /// A read that they do not allow is another failure: then the store gives no answer at all. So is a
    /// key that they do not allow.
    pub fn is_denied_write(error: &StoreError) -> bool {
        let is_write =
            error.source().is_some_and(<dyn Error>::is::<SdkError<TransactWriteItemsError>>);
        is_write && matches!(Self::of(error), Some(Self::Denied(said)) if is_write_to_table(&said))
    }

    fn of_one(error: &(dyn Error + 'static)) -> Option<Self> {
        if error.is::<ResourceNotFoundException>() {
            return Some(Self::NoSuchTable);
        }
        if let Some(connector) = error.downcast_ref::<ConnectorError>() {
            // A connection that closes before the answer is of another kind, which the SDK tries again.
            let breaks = connector.is_io() || connector.is_timeout();
            return (breaks || connector.as_other().is_some())
                .then(|| Self::Unreachable(innermost(error)));
        }
        if error.to_string() == RESPONSE_ERROR && chain(error).any(<dyn Error>::is::<io::Error>) {
            return Some(Self::Unreachable(innermost(error)));
        }
        // The services model none of these errors, so each arrives as a code and a message.
        let metadata = error.downcast_ref::<ErrorMetadata>()?;
        Some(match metadata.code()? {
            "AccessDeniedException" | "AccessDenied" => {
                Self::Denied(metadata.message().unwrap_or_default().to_owned())
            }
            "ExpiredTokenException" | "ExpiredToken" => Self::Expired,
            "UnrecognizedClientException"
            | "InvalidClientTokenId"
            | "InvalidAccessKeyId"
            | "InvalidToken" => Self::UnknownCredentials,
            "InvalidSignatureException"
            | "SignatureDoesNotMatch"
            | "IncompleteSignature"
            | "RequestTimeTooSkewed" => Self::WrongSignature,
            _ => return None,
        })
    }
}

/// Returns whether AWS said that the caller may not write to a table: "User: … is not authorized to
/// perform: dynamodb:PutItem on resource: arn:aws:dynamodb:…:table/… because …".
fn is_write_to_table(said: &str) -> bool {
    let writes = ["PutItem", "UpdateItem", "DeleteItem", "ConditionCheckItem"];
    let denied = said.split_once("not authorized to perform: dynamodb:");
    denied.and_then(|(_, denied)| denied.split_once(" on resource: ")).is_some_and(
        |(action, resource)| {
            let resource = resource.split_whitespace().next().unwrap_or_default();
            writes.contains(&action) && resource.contains(":table/")
        },
    )
}

/// Returns the text of the innermost cause.
fn innermost(error: &(dyn Error + 'static)) -> String {
    chain(error).last().unwrap_or(error).to_string()
}

/// Returns an error and its causes, from the outermost to the innermost.
fn chain<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    successors(Some(error), |error: &&'a (dyn Error + 'static)| (*error).source())
}

#[cfg(test)]
mod tests {
    use aws_sdk_dynamodb::operation::get_item::GetItemError;

    use super::*;

    fn caused(error: impl Into<Box<dyn Error + Send + Sync>>) -> Option<AwsCause> {
        AwsCause::of(&StoreError::unavailable("cannot read table `t`", error))
    }

    fn code(code: &str) -> Option<AwsCause> {
        let metadata = ErrorMetadata::builder().code(code).message("not allowed").build();
        caused(GetItemError::generic(metadata))
    }

    #[test]
    fn the_code_of_a_service_is_a_cause_and_an_unknown_one_is_none() {
        for (text, expected) in [
            ("ThrottlingException", None),
            ("ValidationException", None),
            ("accessdenied", None),
            ("AccessDeniedException", Some(AwsCause::Denied("not allowed".to_owned()))),
            ("AccessDenied", Some(AwsCause::Denied("not allowed".to_owned()))),
            ("ExpiredTokenException", Some(AwsCause::Expired)),
            ("ExpiredToken", Some(AwsCause::Expired)),
            ("UnrecognizedClientException", Some(AwsCause::UnknownCredentials)),
            ("InvalidClientTokenId", Some(AwsCause::UnknownCredentials)),
            ("InvalidSignatureException", Some(AwsCause::WrongSignature)),
            ("SignatureDoesNotMatch", Some(AwsCause::WrongSignature)),
        ] {
            assert_eq!(code(text), expected, "{text}");
        }
    }

    #[test]
    fn a_missing_table_and_a_broken_connection_are_causes() {
        let missing = || ResourceNotFoundException::builder().message("not found").build();
        assert_eq!(
            caused(GetItemError::ResourceNotFoundException(missing())),
            Some(AwsCause::NoSuchTable)
        );
        assert_eq!(
            caused(TransactWriteItemsError::ResourceNotFoundException(missing())),
            Some(AwsCause::NoSuchTable)
        );
        for connector in
            [ConnectorError::io("no route".into()), ConnectorError::timeout("no route".into())]
        {
            assert_eq!(caused(connector), Some(AwsCause::Unreachable("no route".to_owned())));
        }
        let breaks_off = |source: Box<dyn Error + Send + Sync>| {
            caused(SdkError::<GetItemError, ()>::response_error(source, ()))
        };
        let end = io::Error::new(io::ErrorKind::UnexpectedEof, "half an answer");
        let expected = Some(AwsCause::Unreachable("half an answer".to_owned()));
        assert_eq!(breaks_off(end.into()), expected);
        assert_eq!(breaks_off("not JSON".into()), None);
    }

    #[test]
    fn only_a_write_to_the_table_that_a_policy_denies_is_a_denied_write() {
        let table = "arn:aws:dynamodb:eu-west-1:111122223333:table/stile";
        let perform = |action: &str, resource: &str| {
            format!(
                "User: x is not authorized to perform: {action} on resource: {resource} because no identity-based policy allows it"
            )
        };
        let put = perform("dynamodb:PutItem", table);
        let error =
            |code: &str, said: &str| ErrorMetadata::builder().code(code).message(said).build();
        let write = |code: &str, said: &str| {
            let error = TransactWriteItemsError::generic(error(code, said));
            let error: SdkError<TransactWriteItemsError> = SdkError::construction_failure(error);
            AwsCause::is_denied_write(&StoreError::unavailable("x", error))
        };
        let read: SdkError<GetItemError> = SdkError::construction_failure(GetItemError::generic(
            error("AccessDeniedException", &put),
        ));
        assert!(!AwsCause::is_denied_write(&StoreError::unavailable("x", read)));
        assert!(!AwsCause::is_denied_write(&StoreError::busy("x")));
        assert!(!write("ThrottlingException", &put));
        let key = "arn:aws:kms:eu-west-1:111122223333:key/1";
        for said in [
            "",
            &perform("kms:Decrypt", key),
            &perform("kms:Decrypt", "arn:aws:kms:eu-west-1:111122223333:key/dynamodb:PutItem"),
            &perform("dynamodb:PutItem", key),
            &perform("dynamodb:GetItem", table),
            &perform("dynamodb:PutItems", table),
        ] {
            assert!(!write("AccessDeniedException", said), "{said}");
        }
        for action in ["PutItem", "UpdateItem", "DeleteItem", "ConditionCheckItem"] {
            let said = perform(&format!("dynamodb:{action}"), table);
            assert!(write("AccessDeniedException", &said), "{said}");
        }
    }

    #[test]
    fn an_error_that_aws_did_not_cause_has_no_cause() {
        assert_eq!(AwsCause::of(&StoreError::busy("too many clients")), None);
        assert_eq!(caused("the disk is full"), None);
        assert_eq!(caused(ConnectorError::user("wrong".into())), None);
        assert_eq!(caused(ConnectorError::other("unknown".into(), None)), None);
        assert_eq!(caused(io::Error::other("the disk")), None);
    }
}
