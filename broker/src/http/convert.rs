//! Converts each error of a use case into an [`ApiError`]: a code, a message and a hint.
//!
//! Each conversion lists all variants. So a new variant does not compile before it has an answer.

use std::error::Error;

use stile_protocol::audience::Audience;
use stile_protocol::names::{NameError, Namespace};
use stile_protocol::reply::ErrorCode;
use stile_protocol::signed_request::signed_headers;

use super::error::ApiError;
use crate::app::Broker;
use crate::app::archive::ArchiveError as SignedArchiveError;
use crate::app::audit_list::AuditListError;
use crate::app::authorize::{AccessError, AuthenticateError, DecideAgainError};
use crate::app::catalogue::CatalogueError;
use crate::app::life::LifeError;
use crate::app::mint::MintError;
use crate::app::publish::PublishError;
use crate::app::publish_object::{AnnouncedObject, PublishObjectError};
use crate::app::publish_source::PublishSourceError;
use crate::app::upload::SessionError;
use crate::authn::sigv4::proof::ProofError;
use crate::authn::sigv4::{AnswerError, StsError};
use crate::tokens::KeyError;
use stile_core::clock::rfc3339;
use stile_core::grants::Refusal;
use stile_core::package::UploadError;
use stile_core::package::archive::ArchiveError;
use stile_core::package::source::SourceRefusal;
use stile_store::{ObjectRefusal, QuotaExceeded, StoreError, StoreErrorKind};

impl ApiError {
    /// Converts the error of a proof.
    pub fn proof(error: &ProofError) -> Self {
        let code = match error {
            ProofError::Field(_) => ErrorCode::InvalidRequest,
            ProofError::Version => ErrorCode::UnsupportedVersion,
            ProofError::Expired | ProofError::BeforeRestore { .. } => ErrorCode::ProofExpired,
            ProofError::FromFuture => ErrorCode::ProofFromFuture,
        };
        let hint = match error {
            ProofError::Expired | ProofError::FromFuture => {
                Some("compare your clock with `server_time`")
            }
            ProofError::BeforeRestore { .. } => Some("try again after that time"),
            ProofError::Field(_) | ProofError::Version => None,
        };
        let error = Self::new(code, error.to_string());
        hint.map_or(error.clone(), |hint| error.hint(hint))
    }

    /// Converts an error of STS. The answer never contains text from STS.
    pub fn sts(error: StsError, audience: &Audience) -> Self {
        match error {
            StsError::Answer(answer) => {
                if matches!(answer, AnswerError::Malformed(_) | AnswerError::Inconsistent(_)) {
                    tracing::error!(
                        alarm = "sts_answer",
                        error = &answer as &dyn Error,
                        "the answer of STS is not valid"
                    );
                }
                let code = match &answer {
                    AnswerError::SignatureMismatch => {
                        return Self::new(ErrorCode::SignatureMismatch, answer.to_string())
                            .hint(format!(
                                "sign for registry host `{audience}`, with the secret access key of the access key id. The signature must cover exactly the headers `{}`; leave out `x-amz-security-token` if there is no session token",
                                signed_headers(true)
                            ));
                    }
                    AnswerError::SignatureExpired => ErrorCode::ProofExpired,
                    AnswerError::InvalidCredentials => ErrorCode::InvalidCredentials,
                    AnswerError::ExpiredCredentials => ErrorCode::ExpiredCredentials,
                    AnswerError::Unsupported(_) => ErrorCode::UnsupportedPrincipal,
                    AnswerError::Malformed(_) => {
                        return Self::new(
                            ErrorCode::StsBadResponse,
                            "the answer of STS is malformed",
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

    /// Converts the error of a caller identity from a gateway.
    pub fn gateway(error: AnswerError) -> Self {
        match error {
            AnswerError::Unsupported(sentence) => {
                Self::new(ErrorCode::UnsupportedPrincipal, sentence)
            }
            AnswerError::Inconsistent(_) => Self::new(
                ErrorCode::StsInconsistent,
                "the caller identity from the gateway contradicts itself",
            )
            .caused_by(error),
            _ => Self::new(
                ErrorCode::StsBadResponse,
                "the caller identity from the gateway is malformed",
            )
            .caused_by(error),
        }
    }

    /// Converts a refusal, with a hint on how to get the right.
    pub fn refusal(refusal: Refusal) -> Self {
        let error = Self::new(refusal.code(), refusal.to_string());
        match refusal {
            Refusal::NoGrant { principal, namespace, permission } => {
                let namespace = namespace
                    .map_or_else(|| "NAMESPACE".to_owned(), |namespace| namespace.to_string());
                let flag = permission.as_str().replace('_', "-");
                error.hint(format!(
                    "ask an operator for `stile-admin grant create --role-arn {} --namespace {namespace} --{flag}`",
                    principal.display_name()
                ))
            }
            Refusal::OutOfScope { .. } => {
                error.hint("request a token with this namespace and permission")
            }
            Refusal::Recreated { principal } => error.hint(format!(
                "ask an operator for `stile-admin grant repin --role-arn {}`",
                principal.display_name()
            )),
            Refusal::TrustChanged { .. } => error.hint("try again with a new JWT"),
            Refusal::Revoked { principal, .. } => error.hint(format!(
                "ask an operator for `stile-admin token lift --principal {}`",
                principal.display_name()
            )),
        }
    }

    /// Converts the error of a list of audit events.
    pub fn audit_list(error: AuditListError) -> Self {
        match error {
            AuditListError::Refused(refusal) => Self::refusal(refusal),
            AuditListError::OtherList => Self::new(ErrorCode::InvalidRequest, error.to_string()),
            AuditListError::Store(error) => Self::store(error),
        }
    }

    /// Converts an error of the store. The client may try again, unless an operator must repair the
    /// store.
    pub fn store(error: StoreError) -> Self {
        let code = ErrorCode::StoreUnavailable;
        Self::by_kind(error.kind(), code, "the registry cannot reach its store", error)
    }

    /// Converts an error of the keys.
    pub fn key(error: KeyError) -> Self {
        let kind = error.kind();
        let code = ErrorCode::KeyUnavailable;
        Self::by_kind(kind, code, "the registry cannot reach its keys", error)
    }

    /// Converts an error by its kind: `retryable` if a retry may succeed, and `internal` if an
    /// operator must repair the store.
    fn by_kind(
        kind: StoreErrorKind,
        retryable: ErrorCode,
        message: &str,
        error: impl Error + Send + Sync + 'static,
    ) -> Self {
        match kind {
            StoreErrorKind::Unavailable | StoreErrorKind::Busy => Self::new(retryable, message),
            StoreErrorKind::Full => Self::new(
                ErrorCode::InsufficientStorage,
                "the registry has too little free disk space for the archive",
            )
            .hint("try again later, or ask an operator to free disk space"),
            StoreErrorKind::Corrupt => {
                tracing::error!(
                    alarm = "corrupt_store",
                    error = &error as &dyn Error,
                    "the store contains a record that the broker cannot read"
                );
                Self::new(ErrorCode::Internal, "the registry cannot read its store")
            }
            StoreErrorKind::Misconfigured => {
                Self::new(ErrorCode::Internal, "the registry is not set up correctly")
            }
        }
        .caused_by(error)
    }

    /// Converts the error of a mint.
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
            MintError::Jwt(error) => Self::jwt(error, &broker.audience),
            MintError::Refused(refusal) => Self::refusal(refusal),
            MintError::Store(error) => Self::store(error),
            MintError::Key(error) => Self::key(error),
        }
    }

    /// Converts the error of an authentication.
    pub fn authenticate(error: AuthenticateError) -> Self {
        match error {
            AuthenticateError::Invalid => Self::unauthorized(),
            AuthenticateError::Key(error) => Self::key(error),
            AuthenticateError::Store(error) => Self::store(error),
        }
    }

    /// Converts the error of an access. `bad_name` is the answer for a bearer that has the right,
    /// but sent an invalid address.
    pub fn access(error: AccessError, bad_name: impl FnOnce(NameError) -> Self) -> Self {
        match error {
            AccessError::NoNamespace(error) => Self::new(ErrorCode::NoGrant, error.to_string()),
            AccessError::Refused(refusal) => Self::refusal(refusal),
            AccessError::BadName(error) => bad_name(error),
        }
    }

    /// Converts the error of a read. `absent` is the answer if the package does not exist.
    pub fn catalogue(error: CatalogueError, absent: impl FnOnce() -> Self) -> Self {
        match error {
            CatalogueError::Absent => absent(),
            CatalogueError::Unpublished { version, step } => Self::new(
                ErrorCode::Unpublished,
                // The day is enough here. The whole time is in the details of the version.
                format!(
                    "{version} was unpublished on {}: {}",
                    rfc3339(step.at).split('T').next().unwrap_or_default(),
                    step.explanation.sentence()
                ),
            ),
            CatalogueError::SourceRefused { refusal, namespace } => {
                Self::source_refused(refusal, &namespace)
            }
            CatalogueError::ObjectRefused { refusal, namespace } => {
                Self::object_refused(refusal, &namespace)
            }
            CatalogueError::ObjectChanged { .. } => {
                Self::new(ErrorCode::ObjectChanged, error.to_string())
                    .hint("ask the publisher to publish the version again with an object that has the same bytes, or use another version")
            }
            CatalogueError::ObjectDenied { .. } => {
                Self::new(ErrorCode::Internal, error.to_string())
                    .hint("ask an operator to allow the registry `s3:GetObject`, and `kms:Decrypt` with the key of the object")
            }
            CatalogueError::CompromisedKey { .. } => {
                Self::new(ErrorCode::CompromisedKey, error.to_string())
                    .hint("ask the publisher to sign the version again, or use another version")
            }
            CatalogueError::Store(error) => Self::store(error),
            CatalogueError::Key(error) => Self::key(error),
            CatalogueError::Sign => Self::new(ErrorCode::Internal, error.to_string()),
        }
    }

    /// Converts the error of a change of a version's life.
    pub fn life(error: LifeError) -> Self {
        match error {
            LifeError::Absent => Self::not_found(error.to_string()),
            LifeError::Full => Self::new(ErrorCode::TooLarge, error.to_string())
                .hint("unpublish another version first"),
            LifeError::Itself => Self::new(ErrorCode::InvalidRequest, error.to_string()),
            LifeError::Overloaded => Self::new(ErrorCode::Throttled, error.to_string()),
            LifeError::Store(error) => Self::store(error),
        }
    }

    /// Converts the error of a signed URL.
    pub fn archive(error: SignedArchiveError) -> Self {
        match error {
            SignedArchiveError::NotHere => Self::not_found(error.to_string()),
            SignedArchiveError::Url(error) => Self::new(ErrorCode::OutOfScope, error.to_string()),
            SignedArchiveError::Key(error) => Self::key(error),
            SignedArchiveError::Store(error) => Self::store(error),
        }
    }

    /// Converts the error of publishing.
    pub fn publish(error: PublishError) -> Self {
        match error {
            PublishError::Overloaded => Self::new(ErrorCode::Throttled, error.to_string()),
            PublishError::NoTurn => Self::new(ErrorCode::Throttled, error.to_string())
                .hint("publish fewer versions at once"),
            PublishError::Upload(error) => Self::upload(error),
            PublishError::Right(DecideAgainError::Authenticate(error)) => Self::authenticate(error),
            PublishError::Right(DecideAgainError::Refused(refusal)) => Self::refusal(refusal),
            PublishError::Store(error) => Self::store(error),
        }
    }

    /// Returns the error for a version that exceeds a limit of its namespace.
    pub fn quota_exceeded(namespace: &Namespace, exceeded: QuotaExceeded) -> Self {
        let (message, flag) = match exceeded {
            QuotaExceeded::Bytes { max, used, archive } => (
                format!(
                    "the archive of {archive} bytes does not fit into namespace `{namespace}`, which has {used} bytes of its limit of {max}"
                ),
                "--max-bytes SIZE",
            ),
            QuotaExceeded::Versions { max, used } => (
                format!("namespace `{namespace}` has {used} versions, and its limit is {max}"),
                "--max-versions NUMBER",
            ),
        };
        Self::new(ErrorCode::QuotaExceeded, message)
            .hint(format!("ask an operator for `stile-admin namespace set {namespace} {flag}`"))
    }

    /// Converts the error of an upload session to that namespace.
    pub fn upload_session(error: SessionError, namespace: &Namespace) -> Self {
        let message = error.to_string();
        match error {
            SessionError::DirectOnly => Self::new(ErrorCode::TooLarge, message),
            SessionError::OverQuota(exceeded) => Self::quota_exceeded(namespace, exceeded),
            SessionError::TooManyOpen => Self::new(ErrorCode::Throttled, message)
                .hint("complete the open uploads, or wait until an hour has passed since they began"),
            SessionError::Unknown => Self::not_found(message)
                .hint("begin the upload again; the answer shows a published version"),
            SessionError::Nothing => Self::new(ErrorCode::BadArchive, message).hint(
                "put the archive to the URL with the headers from the registry, then complete the upload",
            ),
            SessionError::NotAnnounced => {
                Self::new(ErrorCode::BadArchive, message).hint("begin the upload again")
            }
            SessionError::Publish(error) => Self::publish(error),
        }
    }

    /// Converts the error of publishing a source in that namespace.
    pub fn publish_source(error: PublishSourceError, namespace: &Namespace) -> Self {
        match error {
            PublishSourceError::Source(refusal) => Self::source_refused(refusal, namespace),
            PublishSourceError::Publish(error) => Self::publish(error),
        }
    }

    /// Converts the error of publishing an object in that namespace.
    pub fn publish_object(
        error: PublishObjectError,
        namespace: &Namespace,
        object: &AnnouncedObject,
    ) -> Self {
        let address = &object.address;
        match error {
            PublishObjectError::NotAllowed(refusal) => Self::object_refused(refusal, namespace),
            PublishObjectError::Refused(ObjectRefusal::Missing) => {
                Self::new(ErrorCode::BadArchive, format!("there is no object `{address}`"))
                    .hint("check the bucket and the key")
            }
            PublishObjectError::Refused(ObjectRefusal::Denied) => Self::new(
                ErrorCode::BadArchive,
                format!("S3 does not give object `{address}` to the registry: it does not exist, or the registry may not read it"),
            )
            .hint("check the key; then ask an operator to allow the registry `s3:GetObject`, and `kms:Decrypt` with the key of the object"),
            PublishObjectError::Refused(ObjectRefusal::VersionDenied) => Self::new(
                ErrorCode::BadArchive,
                format!("the registry may not read object `{address}` by its version, as clients do"),
            )
            .hint("ask an operator to allow the registry `s3:GetObjectVersion`"),
            PublishObjectError::Refused(ObjectRefusal::NoBucket) => {
                Self::new(ErrorCode::BadArchive, format!("there is no bucket `{}`", address.bucket()))
                    .hint("check the bucket; then ask an operator whether it was deleted")
            }
            PublishObjectError::Refused(ObjectRefusal::Archived) => Self::new(
                ErrorCode::BadArchive,
                format!("object `{address}` is in an archive storage class, from which clients cannot read it"),
            )
            .hint("copy the object to another storage class"),
            PublishObjectError::Refused(ObjectRefusal::CustomerKey) => Self::new(
                ErrorCode::BadArchive,
                format!("object `{address}` is encrypted with a key of its own (SSE-C), which clients do not have"),
            )
            .hint("copy the object with another encryption"),
            PublishObjectError::Refused(ObjectRefusal::Encoded) => Self::new(
                ErrorCode::BadArchive,
                format!("object `{address}` has a content encoding, which clients would decode"),
            )
            .hint("put the object again without `Content-Encoding`"),
            PublishObjectError::OtherDigest => Self::new(
                ErrorCode::BadArchive,
                format!("the SHA-256 of object `{address}` is not {}", object.sha256),
            )
            .hint("check the key, and compute the digest of the object again"),
            PublishObjectError::NoArchive => {
                Self::new(ErrorCode::BadArchive, format!("object `{address}`: {error}"))
            }
            PublishObjectError::Publish(error) => Self::publish(error),
        }
    }

    /// Returns the error for an object that the namespace does not allow. It is the same for an object
    /// that does not exist.
    pub fn object_refused(refusal: SourceRefusal, namespace: &Namespace) -> Self {
        let hint = format!(
            "ask an operator for `stile-admin namespace set {namespace} --source s3://BUCKET/PREFIX --region REGION`"
        );
        let message = match refusal {
            SourceRefusal::NotAllowed => {
                format!("namespace `{namespace}` does not allow this object")
            }
            SourceRefusal::MovingReference => format!("this object is not allowed: {refusal}"),
        };
        Self::new(ErrorCode::SourceNotAllowed, message).hint(hint)
    }

    /// Returns the error for a source that the namespace does not allow.
    pub fn source_refused(refusal: SourceRefusal, namespace: &Namespace) -> Self {
        let hint = match refusal {
            SourceRefusal::NotAllowed => format!(
                "ask an operator for `stile-admin namespace set {namespace} --source ADDRESS`"
            ),
            SourceRefusal::MovingReference => {
                "`stile-admin module publish --source` finds out the commit of a tag or a branch"
                    .to_owned()
            }
        };
        let message = match refusal {
            SourceRefusal::NotAllowed => {
                format!("namespace `{namespace}` does not allow this source")
            }
            SourceRefusal::MovingReference => format!("this source is not allowed: {refusal}"),
        };
        Self::new(ErrorCode::SourceNotAllowed, message).hint(hint)
    }

    /// Converts the error of an upload.
    pub fn upload(error: UploadError) -> Self {
        match error {
            UploadError::TooLarge(_) => Self::new(ErrorCode::TooLarge, error.to_string()),
            UploadError::Archive(rejected @ ArchiveError::Rejected { .. }) => {
                let hint = rejected.hint();
                let error = Self::new(ErrorCode::BadArchive, rejected.to_string());
                hint.map_or(error.clone(), |hint| error.hint(hint))
            }
            UploadError::Archive(slow @ ArchiveError::TooSlow(_)) => {
                let error = Self::new(ErrorCode::Throttled, slow.to_string());
                slow.hint().map_or(error.clone(), |hint| error.hint(hint))
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
        let full = ApiError::store(StoreError::full("the disk of 10.0.0.7"));
        assert!(!full.sentence().contains("10.0.0.7") && full.chain().contains("10.0.0.7"));
        let response = full.into_response();
        assert_eq!(response.status(), StatusCode::INSUFFICIENT_STORAGE);
        assert_eq!(response.headers()[header::RETRY_AFTER], "60");
    }

    #[test]
    fn a_full_namespace_is_413_without_a_retry_and_names_its_limit_and_the_remedy() {
        let namespace = "acme".parse().unwrap();
        for (exceeded, sentence) in [
            (
                QuotaExceeded::Bytes { max: 10, used: 6, archive: 5 },
                "the archive of 5 bytes does not fit into namespace `acme`, which has 6 bytes of its limit of 10; hint: ask an operator for `stile-admin namespace set acme --max-bytes SIZE`",
            ),
            (
                QuotaExceeded::Versions { max: 2, used: 3 },
                "namespace `acme` has 3 versions, and its limit is 2; hint: ask an operator for `stile-admin namespace set acme --max-versions NUMBER`",
            ),
        ] {
            for error in [
                ApiError::quota_exceeded(&namespace, exceeded),
                ApiError::upload_session(SessionError::OverQuota(exceeded), &namespace),
            ] {
                assert_eq!(
                    (error.code(), &*error.sentence()),
                    (ErrorCode::QuotaExceeded, sentence)
                );
                let response = error.into_response();
                assert_eq!(response.status(), StatusCode::PAYLOAD_TOO_LARGE);
                assert!(!response.headers().contains_key(header::RETRY_AFTER));
            }
        }
    }

    #[test]
    fn a_check_that_had_no_turn_or_was_too_slow_is_429_and_may_be_tried_again() {
        let slow = UploadError::Archive(ArchiveError::TooSlow(std::time::Duration::from_secs(10)));
        for (error, words) in [
            (PublishError::Upload(slow), "takes longer than 10 seconds"),
            (PublishError::NoTurn, "could not begin"),
            (PublishError::Overloaded, "too many uploads"),
        ] {
            let error = ApiError::publish(error);
            assert!(error.chain().contains(words), "{error:?}");
            let response = error.into_response();
            assert_eq!(response.status(), StatusCode::TOO_MANY_REQUESTS);
            assert!(response.headers().contains_key(header::RETRY_AFTER));
        }
    }
}
