//! Takes a success from AWS alone: whatever has no request id was answered by somebody in between.
//!
//! Nearly every answer of the table's and of KMS's may lack every field: an empty `200` of a proxy, or a page of its own,
//! would say that no grant, no revocation and no keyring is there, and that a proof was claimed.

use aws_sdk_dynamodb::config::http::HttpResponse;
use aws_sdk_dynamodb::config::interceptors::BeforeDeserializationInterceptorContextRef;
use aws_sdk_dynamodb::config::{ConfigBag, Intercept, RuntimeComponents};
use aws_sdk_dynamodb::error::BoxError;

/// What DynamoDB and KMS, and S3, call the id that each answer of theirs has.
const REQUEST_IDS: [&str; 2] = ["x-amzn-requestid", "x-amz-request-id"];

/// The check, for every client.
#[derive(Debug)]
pub(crate) struct Genuine;

/// A success that AWS did not give.
#[derive(Debug, thiserror::Error)]
#[error("a success without a request id is not from AWS")]
struct Stranger;

impl Intercept for Genuine {
    fn name(&self) -> &'static str {
        "Genuine"
    }

    fn read_before_deserialization(
        &self,
        context: &BeforeDeserializationInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let response = context.response();
        // A refusal needs none: it is a failure, whoever says it, but where it is taken for an answer.
        if response.status().is_success() && !is_from_aws(response) {
            Err(Stranger.into())
        } else {
            Ok(())
        }
    }
}

/// Whether AWS gave that answer.
pub(crate) fn is_from_aws(response: &HttpResponse) -> bool {
    REQUEST_IDS.iter().any(|name| response.headers().get(name).is_some_and(|id| !id.is_empty()))
}
