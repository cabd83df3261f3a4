//! Finds out from an error of S3 why the broker cannot read an object of another bucket.
//!
//! Amazon S3, "Error responses", lists the codes.

use aws_sdk_s3::config::http::HttpResponse;
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use stile_core::package::source::ObjectAddress;

use crate::aws::is_from_aws;
use crate::{ObjectRefusal, StoreError};

/// Why the broker cannot read an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reason {
    /// S3 does not give the object. It would not give it later.
    Refused(ObjectRefusal),
    /// The bucket is in another region.
    AnotherRegion,
    /// S3 does not accept the credentials.
    Credentials,
    /// S3 does not accept the request, for another reason.
    Rejected,
    /// S3 is down or busy, or its credentials have expired, so the same request can succeed later.
    Unavailable,
}

impl Reason {
    /// Returns the reason of an error.
    pub(super) fn of<E: ProvideErrorMetadata>(error: &SdkError<E, HttpResponse>) -> Self {
        let (code, message) = (error.code().unwrap_or_default(), error.message());
        Self::read(genuine_status(error), code, message.unwrap_or_default())
    }

    /// Returns the reason of an answer with this status, code and message. Without a status, S3 did not
    /// answer.
    fn read(status: Option<u16>, code: &str, message: &str) -> Self {
        let status = status.unwrap_or(503);
        match (status, code) {
            (404, "NoSuchKey") => Self::Refused(ObjectRefusal::Missing),
            (404, "NoSuchBucket") => Self::Refused(ObjectRefusal::NoBucket),
            // To a caller that may not list the bucket, S3 denies what does not exist, and names the
            // action that would show it (Amazon S3, "Troubleshoot access denied errors"). The message
            // also has the key, which has no spaces.
            (403, "AccessDenied") if message.contains("perform: s3:ListBucket on ") => {
                Self::Refused(ObjectRefusal::Missing)
            }
            (403, "AccessDenied") => Self::Refused(ObjectRefusal::Denied),
            (403, "InvalidObjectState") => Self::Refused(ObjectRefusal::Archived),
            (400, "InvalidRequest") if message.contains("Server Side Encryption") => {
                Self::Refused(ObjectRefusal::CustomerKey)
            }
            (400..500, "ExpiredToken" | "RequestTimeout" | "KMS.ThrottlingException") => {
                Self::Unavailable
            }
            (400..500, code) if code.starts_with("KMS.") => Self::Refused(ObjectRefusal::Denied),
            (301 | 307, _) | (400..500, "AuthorizationHeaderMalformed" | "PermanentRedirect") => {
                Self::AnotherRegion
            }
            (400..500, code) if code.starts_with("IllegalLocationConstraint") => {
                Self::AnotherRegion
            }
            (429 | 500.., _) => Self::Unavailable,
            (403, _) | (_, "InvalidToken") => Self::Credentials,
            _ => Self::Rejected,
        }
    }

    /// Returns the error for this reason.
    pub(super) fn failure<E>(
        self,
        address: &ObjectAddress,
        region: &str,
        error: SdkError<E, HttpResponse>,
    ) -> StoreError
    where
        E: std::error::Error + Send + Sync + 'static,
    {
        let message = match self {
            Self::Unavailable => {
                return StoreError::unavailable(format!("cannot read object `{address}`"), error);
            }
            Self::AnotherRegion => format!(
                "cannot read object `{address}`; hint: check that its bucket is in region `{region}`, and correct it with `stile-admin namespace set NAMESPACE --source s3://BUCKET/PREFIX --region REGION`"
            ),
            Self::Credentials => {
                format!("S3 does not accept the credentials for object `{address}`")
            }
            Self::Refused(_) | Self::Rejected => {
                format!("S3 does not accept the request for object `{address}`")
            }
        };
        StoreError::misconfigured(message).caused_by(error)
    }
}

/// Returns the status of an error that S3 itself sent.
pub(super) fn genuine_status<E>(error: &SdkError<E, HttpResponse>) -> Option<u16> {
    let response = error.raw_response().filter(|response| is_from_aws(response));
    response.map(|response| response.status().as_u16())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_code_of_s3_says_whether_a_publisher_an_operator_or_time_can_help() {
        let key = "User: x is not authorized to perform: s3:GetObject on resource: \"arn:aws:s3:::b/perform:s3:ListBucket\"";
        let list = "User: x is not authorized to perform: s3:ListBucket on resource: \"arn:aws:s3:::b\" because no identity-based policy allows the s3:ListBucket action";
        let customer_key = "The object was stored using a form of Server Side Encryption. The correct parameters must be provided to retrieve the object.";
        let refused = Reason::Refused;
        for (status, code, message, expected) in [
            (None, "", "", Reason::Unavailable),
            (None, "AccessDenied", "", Reason::Unavailable),
            (None, "NoSuchKey", "", Reason::Unavailable),
            (Some(404), "NoSuchKey", "", refused(ObjectRefusal::Missing)),
            (Some(404), "NoSuchBucket", "", refused(ObjectRefusal::NoBucket)),
            (Some(404), "", "", Reason::Rejected),
            (Some(403), "AccessDenied", "Access Denied", refused(ObjectRefusal::Denied)),
            (Some(403), "AccessDenied", key, refused(ObjectRefusal::Denied)),
            (Some(403), "AccessDenied", list, refused(ObjectRefusal::Missing)),
            (Some(403), "InvalidObjectState", "", refused(ObjectRefusal::Archived)),
            (Some(403), "InvalidAccessKeyId", list, Reason::Credentials),
            (Some(403), "RequestTimeTooSkewed", "", Reason::Credentials),
            (Some(403), "", "", Reason::Credentials),
            (Some(400), "InvalidToken", "", Reason::Credentials),
            (Some(400), "InvalidRequest", customer_key, refused(ObjectRefusal::CustomerKey)),
            (Some(400), "InvalidRequest", "x", Reason::Rejected),
            (Some(400), "KMS.DisabledException", "", refused(ObjectRefusal::Denied)),
            (Some(400), "KMS.NotFoundException", "", refused(ObjectRefusal::Denied)),
            (Some(400), "KMS.ThrottlingException", "", Reason::Unavailable),
            (Some(500), "KMS.InternalException", "", Reason::Unavailable),
            (Some(400), "ExpiredToken", "", Reason::Unavailable),
            (Some(400), "RequestTimeout", "", Reason::Unavailable),
            (Some(400), "AuthorizationHeaderMalformed", "", Reason::AnotherRegion),
            (Some(400), "IllegalLocationConstraintException", "", Reason::AnotherRegion),
            (Some(301), "PermanentRedirect", "", Reason::AnotherRegion),
            (Some(301), "", "", Reason::AnotherRegion),
            (Some(307), "TemporaryRedirect", "", Reason::AnotherRegion),
            (Some(400), "BadDigest", "", Reason::Rejected),
            (Some(405), "MethodNotAllowed", "", Reason::Rejected),
            (Some(429), "", "", Reason::Unavailable),
            (Some(503), "SlowDown", "", Reason::Unavailable),
            (Some(500), "InternalError", "", Reason::Unavailable),
        ] {
            assert_eq!(Reason::read(status, code, message), expected, "{status:?} {code}");
        }
    }
}
