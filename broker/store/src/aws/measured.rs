//! Counts each call of AWS with its duration, and writes a line about it to the log.
//!
//! A call with its retries counts once. The line is in the span of the request, so it has the ids of
//! the request and of its trace.

use std::time::Instant;

use aws_sdk_dynamodb::config::http::HttpResponse;
use aws_sdk_dynamodb::config::interceptors::{
    BeforeSerializationInterceptorContextRef, FinalizerInterceptorContextRef,
};
use aws_sdk_dynamodb::config::{ConfigBag, Intercept, RuntimeComponents};
use aws_sdk_dynamodb::error::BoxError;
use aws_smithy_runtime_api::client::orchestrator::Metadata;
use aws_smithy_types::config_bag::{Storable, StoreReplace};

use super::genuine::request_id;
use crate::{CallResult, Service, ServiceCalls};

/// The texts in an error of a service that has too much to do. The services use several codes.
const BUSY: [&[u8]; 4] = [b"Throttl", b"ThroughputExceeded", b"RequestLimitExceeded", b"SlowDown"];

/// The most bytes of an error that are searched for [`BUSY`].
const SEARCHED: usize = 4096;

/// The interceptor that counts the calls of one client.
#[derive(Debug)]
pub(crate) struct Measured {
    service: Service,
    calls: ServiceCalls,
}

/// When a call began.
#[derive(Debug, Clone, Copy)]
struct Began(Instant);

impl Storable for Began {
    type Storer = StoreReplace<Self>;
}

impl Measured {
    /// Counts the calls of a client of this service.
    pub(crate) fn new(service: Service, calls: &ServiceCalls) -> Self {
        Self { service, calls: calls.clone() }
    }
}

impl Intercept for Measured {
    fn name(&self) -> &'static str {
        "Measured"
    }

    fn read_before_execution(
        &self,
        _: &BeforeSerializationInterceptorContextRef<'_>,
        bag: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        bag.interceptor_state().store_put(Began(Instant::now()));
        Ok(())
    }

    fn read_after_execution(
        &self,
        context: &FinalizerInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        bag: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let (Some(Began(began)), Some(called)) = (bag.load::<Began>(), bag.load::<Metadata>())
        else {
            return Ok(());
        };
        let (took, result) = (began.elapsed(), result_of(context));
        tracing::debug!(
            service = self.service.as_str(),
            operation = called.name(),
            result = result.as_str(),
            micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX),
            aws_request_id = context.response().and_then(request_id),
            "called AWS"
        );
        self.calls.record(self.service, called.name().to_owned(), result, took);
        Ok(())
    }
}

/// Returns how a call ended.
fn result_of(context: &FinalizerInterceptorContextRef<'_>) -> CallResult {
    match context.output_or_error() {
        Some(Ok(_)) => CallResult::Ok,
        Some(Err(error)) if error.is_timeout_error() => CallResult::Timeout,
        Some(Err(error)) => match error.as_connector_error() {
            Some(connector) if connector.is_timeout() => CallResult::Timeout,
            Some(_) => CallResult::Unreachable,
            None => context.response().map_or(CallResult::Failed, result_of_error),
        },
        None => CallResult::Failed,
    }
}

/// Returns how a call ended whose response is an error, or cannot be read.
fn result_of_error(response: &HttpResponse) -> CallResult {
    let body = response.body().bytes().unwrap_or_default();
    let body = &body[..body.len().min(SEARCHED)];
    let is_busy = |text: &[u8]| body.windows(text.len()).any(|part| part == text);
    match response.status().as_u16() {
        429 | 503 => CallResult::Busy,
        400.. if BUSY.iter().any(|text| is_busy(text)) => CallResult::Busy,
        400..500 => CallResult::Refused,
        _ => CallResult::Failed,
    }
}

#[cfg(test)]
mod tests {
    use aws_smithy_types::body::SdkBody;

    use super::*;

    #[test]
    fn a_busy_service_is_not_one_that_refuses_or_fails() {
        let response = |status: u16, body: &str| {
            HttpResponse::new(status.try_into().unwrap(), SdkBody::from(body.to_owned()))
        };
        let slow = "<Error><Code>SlowDown</Code></Error>";
        let cancelled = r#"{"__type":"x#TransactionCanceledException","CancellationReasons":[]}"#;
        for (status, body, expected) in [
            (400, "", CallResult::Refused),
            (400, cancelled, CallResult::Refused),
            (404, "NoSuchKey", CallResult::Refused),
            (400, r#"{"__type":"x#ThrottlingException"}"#, CallResult::Busy),
            (400, r#"{"__type":"x#ProvisionedThroughputExceededException"}"#, CallResult::Busy),
            (429, "", CallResult::Busy),
            (503, slow, CallResult::Busy),
            (500, "", CallResult::Failed),
            (500, slow, CallResult::Busy),
            (200, "not JSON", CallResult::Failed),
        ] {
            assert_eq!(result_of_error(&response(status, body)), expected, "{status} {body}");
        }
    }
}
