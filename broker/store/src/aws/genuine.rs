//! Accepts a success only from AWS. An answer without a request id comes from something in between,
//! such as a proxy.
//!
//! In nearly every answer of DynamoDB and KMS, all fields are optional. So an empty `200` of a
//! proxy, or its own page, would look like an answer. It would say that there is no grant,
//! revocation or keyring, and that the proof is recorded.

use aws_sdk_dynamodb::config::http::HttpResponse;
use aws_sdk_dynamodb::config::interceptors::BeforeDeserializationInterceptorContextRef;
use aws_sdk_dynamodb::config::{ConfigBag, Intercept, RuntimeComponents};
use aws_sdk_dynamodb::error::BoxError;

/// The headers with the request id of an answer: of DynamoDB and KMS, and of S3.
const REQUEST_IDS: [&str; 2] = ["x-amzn-requestid", "x-amz-request-id"];

/// The interceptor that makes this check for a client.
#[derive(Debug)]
pub(crate) struct Genuine;

/// A success that does not come from AWS.
#[derive(Debug, thiserror::Error)]
#[error(
    "the answer has no AWS request id, so it does not come from AWS; hint: check the proxy and the endpoint"
)]
struct MissingRequestId;

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
        // An error response needs no request id, because it is a failure whatever sent it. Code
        // that uses an error response as an answer checks the id itself.
        if response.status().is_success() && !is_from_aws(response) {
            Err(MissingRequestId.into())
        } else {
            Ok(())
        }
    }
}

/// Returns whether the response has a request id of AWS.
pub(crate) fn is_from_aws(response: &HttpResponse) -> bool {
    request_id(response).is_some()
}

/// Returns the request id of AWS.
pub(super) fn request_id(response: &HttpResponse) -> Option<&str> {
    REQUEST_IDS.iter().find_map(|name| response.headers().get(*name).filter(|id| !id.is_empty()))
}
