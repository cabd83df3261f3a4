//! Turns each error of a use case into what the client is told: a code, a sentence and a hint. By hand, so that a new
//! variant does not compile before somebody has chosen its answer.

use std::error::Error;

use stile_protocol::audience::Audience;
use stile_protocol::names::NameError;
use stile_protocol::reply::ErrorCode;

use super::error::ApiError;
use crate::app::Broker;
use crate::app::archive::ArchiveError as SignedArchiveError;
use crate::app::authorize::{AccessError, AuthenticateError, DecideAgainError};
use crate::app::catalogue::CatalogueError;
use crate::app::mint::MintError;
use crate::app::publish::PublishError;
use crate::app::upload::SessionError;
use crate::authn::sigv4::proof::ProofError;
use crate::authn::sigv4::{AnswerError, StsError};
use crate::tokens::KeyError;
use stile_core::grants::Refusal;
use stile_core::package::UploadError;
use stile_core::package::archive::ArchiveError;
use stile_store::{StoreError, StoreErrorKind};

impl ApiError {
    /// What a refused or failed proof is answered with.
    pub fn proof(error: &ProofError) -> Self {
        let code = match error {
            ProofError::Field(_) => ErrorCode::InvalidRequest,
            ProofError::Version => ErrorCode::UnsupportedVersion,
            ProofError::Expired => ErrorCode::ProofExpired,
            ProofError::FromFuture => ErrorCode::ProofFromFuture,
        };
        let hint = matches!(code, ErrorCode::ProofExpired | ErrorCode::ProofFromFuture)
            .then_some("compare your clock with `server_time`");
        let error = Self::new(code, error.to_string());
        hint.map_or(error.clone(), |hint| error.hint(hint))
    }

    /// What STS's word, or its silence, is answered with; its own text is never repeated.
    pub fn sts(error: StsError, audience: &Audience) -> Self {
        match error {
            StsError::Answer(answer) => {
                if matches!(answer, AnswerError::Malformed(_) | AnswerError::Inconsistent(_)) {
                    tracing::error!(
                        alarm = "sts_answer",
                        error = &answer as &dyn Error,
                        "what answered for STS is not to be believed"
                    );
                }
                let code = match &answer {
                    AnswerError::SignatureMismatch => {
                        return Self::new(ErrorCode::SignatureMismatch, answer.to_string())
                            .hint(format!("sign for registry host `{audience}`, with the secret that belongs to the access key"));
                    }
                    AnswerError::SignatureExpired => ErrorCode::ProofExpired,
                    AnswerError::InvalidCredentials => ErrorCode::InvalidCredentials,
                    AnswerError::ExpiredCredentials => ErrorCode::ExpiredCredentials,
                    AnswerError::Unsupported(_) => ErrorCode::UnsupportedPrincipal,
                    AnswerError::Malformed(_) => {
                        return Self::new(
                            ErrorCode::StsBadResponse,
                            "the answer for STS cannot be read",
                        )
                        .caused_by(answer);
                    }
                    AnswerError::Inconsistent(_) => {
                        return Self::new(
                            ErrorCode::StsInconsistent,
                            "the answer of STS contradicts itself",
                        )
                        .caused_by(answer);
                    }
                };
                Self::new(code, answer.to_string())
            }
            StsError::Busy => Self::new(ErrorCode::Throttled, error.to_string()),
            StsError::Timeout => Self::new(ErrorCode::StsTimeout, error.to_string()),
            StsError::Unavailable(_) => {
                Self::new(ErrorCode::StsUnavailable, error.to_string()).caused_by(error)
            }
            StsError::NotSts(_) => {
                Self::new(ErrorCode::StsBadResponse, error.to_string()).caused_by(error)
            }
        }
    }

    /// What a gateway's word on its caller is answered with, where that makes no identity.
    pub fn gateway(error: AnswerError) -> Self {
        match error {
            AnswerError::Unsupported(sentence) => {
                Self::new(ErrorCode::UnsupportedPrincipal, sentence)
            }
            AnswerError::Inconsistent(_) => Self::new(
                ErrorCode::StsInconsistent,
                "what the gateway says of the caller contradicts itself",
            )
            .caused_by(error),
            _ => Self::new(
                ErrorCode::StsBadResponse,
                "what the gateway says of the caller cannot be read",
            )
            .caused_by(error),
        }
    }

    /// What a caller without the right is answered with.
    pub fn refusal(refusal: Refusal) -> Self {
        let message = refusal.to_string();
        match refusal {
            Refusal::NoGrant { principal, namespace, permission } => {
                let namespace = namespace
                    .map_or_else(|| "NAMESPACE".to_owned(), |namespace| namespace.to_string());
                let flag = permission.as_str().replace('_', "-");
                Self::new(ErrorCode::NoGrant, message).hint(format!(
                    "ask an operator for `stile-admin grant create --role-arn {} --namespace {namespace} --{flag}`",
                    principal.display_name()
                ))
            }
            Refusal::OutOfScope { .. } => Self::new(ErrorCode::OutOfScope, message)
                .hint("ask for a token with that namespace and permission"),
            Refusal::Recreated { principal } => Self::new(ErrorCode::PrincipalRecreated, message)
                .hint(format!(
                    "ask an operator for `stile-admin grant repin --role-arn {}`",
                    principal.display_name()
                )),
            Refusal::Revoked { .. } => {
                Self::new(ErrorCode::PrincipalRevoked, message).hint("ask an operator to lift it")
            }
        }
    }

    /// The store gives no answer: it is down, and the caller may try again, or an operator must repair it first.
    pub fn store(error: StoreError) -> Self {
        let code = ErrorCode::StoreUnavailable;
        Self::of_kind(error.kind(), code, "the registry's store cannot be reached", error)
    }

    /// There is no key.
    pub fn key(error: KeyError) -> Self {
        let kind = error.kind();
        let code = ErrorCode::KeyUnavailable;
        Self::of_kind(kind, code, "the registry's keys cannot be reached", error)
    }

    /// `retryable` and its message where trying again may help; `internal` where an operator must repair the store first.
    fn of_kind(
        kind: StoreErrorKind,
        retryable: ErrorCode,
        message: &str,
        error: impl Error + Send + Sync + 'static,
    ) -> Self {
        match kind {
            StoreErrorKind::Unavailable | StoreErrorKind::Busy => Self::new(retryable, message),
            StoreErrorKind::Corrupt => {
                tracing::error!(
                    alarm = "corrupt_store",
                    error = &error as &dyn Error,
                    "the store holds something that cannot be read"
                );
                Self::new(ErrorCode::Internal, "the registry cannot read its store")
            }
            StoreErrorKind::Misconfigured => {
                Self::new(ErrorCode::Internal, "the registry is not set up correctly")
            }
        }
        .caused_by(error)
    }

    /// Why there is no token.
    pub fn mint(error: MintError, broker: &Broker) -> Self {
        let enabled = || {
            let names: Vec<_> = broker.regions.iter().map(|region| region.name).collect();
            format!("sign for one of: {}", names.join(", "))
        };
        match error {
            MintError::Proof(error) => Self::proof(&error),
            MintError::RegionNotEnabled(_) => {
                Self::new(ErrorCode::RegionNotEnabled, error.to_string()).hint(enabled())
            }
            MintError::NoRegion => {
                Self::new(ErrorCode::BadRegion, error.to_string()).hint(enabled())
            }
            MintError::Overloaded => Self::new(ErrorCode::Throttled, error.to_string()),
            MintError::Replayed => Self::new(ErrorCode::ProofReplayed, error.to_string())
                .hint("make a new proof for each token"),
            MintError::Sts(error) => Self::sts(error, &broker.audience),
            MintError::Gateway(error) => Self::gateway(error),
            MintError::Refused(refusal) => Self::refusal(refusal),
            MintError::Store(error) => Self::store(error),
            MintError::Key(error) => Self::key(error),
        }
    }

    /// Why a token authenticates nobody.
    pub fn authenticate(error: AuthenticateError) -> Self {
        match error {
            AuthenticateError::Invalid => Self::unauthorized(),
            AuthenticateError::Key(error) => Self::key(error),
            AuthenticateError::Store(error) => Self::store(error),
        }
    }

    /// Why a bearer gets no access; `bad_name` answers a holder of the right who names what is not an address.
    pub fn access(error: AccessError, bad_name: impl FnOnce(NameError) -> Self) -> Self {
        match error {
            AccessError::NoNamespace(error) => Self::new(ErrorCode::NoGrant, error.to_string()),
            AccessError::Refused(refusal) => Self::refusal(refusal),
            AccessError::BadName(error) => bad_name(error),
        }
    }

    /// Why nothing can be read; `absent` is the answer where there is nothing.
    pub fn catalogue(error: CatalogueError, absent: impl FnOnce() -> Self) -> Self {
        match error {
            CatalogueError::Absent => absent(),
            CatalogueError::Store(error) => Self::store(error),
            CatalogueError::Key(error) => Self::key(error),
            CatalogueError::Sign => Self::new(ErrorCode::Internal, error.to_string()),
        }
    }

    /// Why a signed URL gives nothing.
    pub fn archive(error: SignedArchiveError) -> Self {
        match error {
            SignedArchiveError::NotHere => Self::not_found(error.to_string()),
            SignedArchiveError::Url(error) => Self::new(ErrorCode::OutOfScope, error.to_string()),
            SignedArchiveError::Key(error) => Self::key(error),
        }
    }

    /// Why nothing was published.
    pub fn publish(error: PublishError) -> Self {
        match error {
            PublishError::Overloaded => Self::new(ErrorCode::Throttled, error.to_string()),
            PublishError::Upload(error) => Self::upload(error),
            PublishError::Right(DecideAgainError::Authenticate(error)) => Self::authenticate(error),
            PublishError::Right(DecideAgainError::Refused(refusal)) => Self::refusal(refusal),
            PublishError::Store(error) => Self::store(error),
        }
    }

    /// Why an upload session cannot be begun or completed.
    pub fn upload_session(error: SessionError) -> Self {
        let message = error.to_string();
        match error {
            SessionError::DirectOnly => Self::new(ErrorCode::TooLarge, message),
            SessionError::Unknown => Self::not_found(message)
                .hint("begin it again: what was published already is told there"),
            SessionError::Nothing => Self::new(ErrorCode::BadArchive, message).hint(
                "put the archive there, with the headers that came with it, and complete the upload then",
            ),
            SessionError::NotAnnounced => {
                Self::new(ErrorCode::BadArchive, message).hint("begin the upload again")
            }
            SessionError::Publish(error) => Self::publish(error),
        }
    }

    /// An upload came to nothing.
    pub fn upload(error: UploadError) -> Self {
        match error {
            UploadError::TooLarge => Self::new(ErrorCode::TooLarge, error.to_string()),
            UploadError::Archive(refused @ ArchiveError::Rejected { .. }) => {
                let hint = refused.hint();
                let error = Self::new(ErrorCode::BadArchive, refused.to_string());
                hint.map_or(error.clone(), |hint| error.hint(hint))
            }
            UploadError::Archive(ArchiveError::Unreadable(_)) => {
                Self::new(ErrorCode::StoreUnavailable, error.to_string()).caused_by(error)
            }
            UploadError::Disk(_) => {
                Self::new(ErrorCode::StoreUnavailable, error.to_string()).caused_by(error)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use axum::http::{StatusCode, header};
    use axum::response::IntoResponse as _;

    use super::*;

    #[test]
    fn only_a_store_that_is_down_or_busy_tells_the_client_to_try_again() {
        type Failure = fn() -> StoreError;
        let failures: [(Failure, bool); 4] = [
            (|| StoreError::unavailable("the disk at 10.0.0.7", "timed out"), true),
            (|| StoreError::busy("a writer holds 10.0.0.7"), true),
            (|| StoreError::corrupt("row 10.0.0.7"), false),
            (|| StoreError::misconfigured("no bucket 10.0.0.7"), false),
        ];
        for (failure, retryable) in failures {
            for (error, code) in [
                (ApiError::store(failure()), ErrorCode::StoreUnavailable),
                (ApiError::key(KeyError::Store(failure())), ErrorCode::KeyUnavailable),
            ] {
                let expected = if retryable { code } else { ErrorCode::Internal };
                assert_eq!(error.code(), expected, "{error:?}");
                assert!(error.chain().contains("10.0.0.7"), "the log has the cause: {error:?}");
                let response = error.into_response();
                let status = if retryable {
                    StatusCode::SERVICE_UNAVAILABLE
                } else {
                    StatusCode::INTERNAL_SERVER_ERROR
                };
                assert_eq!(response.status(), status);
                assert_eq!(response.headers().contains_key(header::RETRY_AFTER), retryable);
            }
        }
        assert_eq!(ApiError::key(KeyError::Crypto).code(), ErrorCode::KeyUnavailable);
    }
}
