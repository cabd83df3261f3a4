//! The broker as a Lambda function: answers four forms of events with the same router as the
//! server.
//!
//! A fifth form is internal: a schedule invokes the function with it, and no gateway can.
//!
//! The source and the caller of an event are in its own fields. This module passes them on as
//! extensions of the request, which no client can set. The broker ignores the same values in a
//! header, a body or a query.

mod authorizer;
mod event_error;
mod internal;
mod method_arn;
mod shape;

use std::convert::Infallible;
use std::io::Write as _;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::Request;
use bytes::Bytes;
use lambda_http::request::LambdaRequest;
use lambda_http::{Adapter, Context, LambdaEvent, Service, service_fn};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use tower::ServiceExt;

use crate::app::{Broker, count_backlog, tick};
use crate::authn::gateway::IamSource;
use crate::config::{AuthorizerBase, Config};
use crate::http::archive_body::DirectLimit;
use crate::http::run_detached::StopsAfterAnswer;
use crate::metrics::{CloudWatchNamespace, Emf, Format};

pub use event_error::EventError;

/// The time that an answer needs on its way: the rest of the request after a wait, and Lambda's own
/// work. An event is answered that long before its deadline.
const ANSWERED_BEFORE: Duration = Duration::from_secs(5);

/// Answers events until Lambda stops the process.
pub async fn serve(
    router: Router,
    broker: Arc<Broker>,
    config: &Config,
) -> Result<(), lambda_http::Error> {
    let function = Arc::new(
        Function::new(router, broker, config.iam_source.clone(), config.authorizer_base.clone())
            .with_metrics(config.metrics.namespace.clone()),
    );
    lambda_http::lambda_runtime::run(service_fn(move |event: LambdaEvent<Box<RawValue>>| {
        let function = Arc::clone(&function);
        async move { function.answer_before(&event.payload, event.context.deadline).await }
    }))
    .await
}

/// The function: the router with the settings for events.
#[derive(Debug)]
pub struct Function {
    router: Router,
    broker: Arc<Broker>,
    iam_source: Option<IamSource>,
    authorizer_base: Option<AuthorizerBase>,
    metrics: Option<Emf>,
}

impl Function {
    /// Creates a function that trusts callers from `iam_source`, and guards routes below
    /// `authorizer_base`.
    pub fn new(
        router: Router,
        broker: Arc<Broker>,
        iam_source: Option<IamSource>,
        authorizer_base: Option<AuthorizerBase>,
    ) -> Self {
        Self { router, broker, iam_source, authorizer_base, metrics: None }
    }

    /// Writes the metrics of each event to the log, for that namespace of CloudWatch.
    #[must_use]
    pub fn with_metrics(self, namespace: Option<CloudWatchNamespace>) -> Self {
        Self { metrics: namespace.map(Emf::new), ..self }
    }

    /// Answers one event without a deadline, as [`Function::answer_before`] does.
    pub async fn answer(&self, event: &RawValue) -> Result<Box<RawValue>, EventError> {
        self.answer_before(event, u64::MAX).await
    }

    /// Answers one event, and writes the metrics that changed to the log. Lambda ends the process at the
    /// deadline, in Unix milliseconds.
    ///
    /// Lambda freezes the function after the answer, and may never wake it. So nothing waits for a
    /// later event, except the check of a large file: the event that asks for it again goes on with it.
    pub async fn answer_before(
        &self,
        event: &RawValue,
        deadline: u64,
    ) -> Result<Box<RawValue>, EventError> {
        let now = u64::try_from(self.broker.clock.now()).unwrap_or_default();
        let left = Duration::from_millis(deadline.saturating_sub(now.saturating_mul(1000)));
        let (answered, lines) = self.answer_within(event, left).await;
        let lines: String = lines.into_iter().map(|line| line + "\n").collect();
        // CloudWatch reads a line only if it is nothing but JSON, so it is no line of the log.
        let _ = std::io::stderr().lock().write_all(lines.as_bytes());
        answered
    }

    /// Answers one event without a deadline, and returns the answer with the log lines of the metrics
    /// that changed.
    pub async fn answer_with_lines(
        &self,
        event: &RawValue,
    ) -> (Result<Box<RawValue>, EventError>, Vec<String>) {
        self.answer_within(event, Duration::MAX).await
    }

    async fn answer_within(
        &self,
        event: &RawValue,
        left: Duration,
    ) -> (Result<Box<RawValue>, EventError>, Vec<String>) {
        let answered = self.answer_event(event, left.saturating_sub(ANSWERED_BEFORE)).await;
        let Some(metrics) = &self.metrics else { return (answered, Vec::new()) };
        let now = self.broker.clock.now();
        let lines = metrics.lines(&self.broker.metrics_in(Format::OpenMetrics), now);
        // Another instance can have the next tick, and send these events. So a later event, at a
        // later time, must not repeat the numbers.
        self.broker.metrics.events_waiting([]);
        (answered, lines)
    }

    async fn answer_event(
        &self,
        event: &RawValue,
        left: Duration,
    ) -> Result<Box<RawValue>, EventError> {
        if internal::is_tick(event) {
            let sent = tick(&self.broker).await;
            // After the delivery, so that a slow count delays no event, and what the tick delivers
            // is no backlog.
            if self.metrics.is_some() {
                count_backlog(&self.broker).await;
            }
            return to_json(&internal::answer(sent));
        }
        // Only authorizer events have a field `type`, and clients cannot set a field outside of
        // their request.
        let kind =
            serde_json::from_str::<EventType>(event.get()).map_err(|_| EventError::NoEvent)?.kind;
        match kind.as_deref() {
            Some(kind) => to_json(
                &authorizer::answer(kind, event, self.authorizer_base.as_ref(), &self.broker)
                    .await?,
            ),
            None => to_json(&self.serve(event, left).await?),
        }
    }

    async fn serve(&self, event: &RawValue, left: Duration) -> Result<impl Serialize, EventError> {
        let mut event: LambdaRequest =
            serde_json::from_str(event.get()).map_err(|_| EventError::NoEvent)?;
        let caller = self
            .iam_source
            .as_ref()
            .and_then(|source| source.caller_of(shape::unverified_context(&event)));
        let limit = DirectLimit(shape::largest_archive(&event));
        let address = shape::client_address(&event);
        let target = shape::normalize(&mut event);
        let body = shape::take_body(&mut event);
        let router = self.router.clone();
        let service = service_fn(move |request: lambda_http::Request| {
            let (mut parts, _) = request.into_parts();
            parts.uri = target.uri(parts.uri.query());
            parts.extensions.clear();
            parts.extensions.insert(limit);
            parts.extensions.insert(StopsAfterAnswer(left));
            if let Some(address) = address {
                parts.extensions.insert(address);
            }
            if let Some(caller) = caller.clone() {
                parts.extensions.insert(caller);
            }
            let body = body.clone().unwrap_or_else(|malformed| {
                parts.extensions.insert(malformed);
                Bytes::new()
            });
            router.clone().oneshot(Request::from_parts(parts, Body::from(body)))
        });
        let answered: Result<_, Infallible> =
            Adapter::from(service).call(LambdaEvent::new(event, Context::default())).await;
        Ok(answered.unwrap_or_else(|never| match never {}))
    }
}

#[derive(Deserialize)]
struct EventType {
    #[serde(rename = "type")]
    kind: Option<String>,
}

fn to_json(answer: &impl Serialize) -> Result<Box<RawValue>, EventError> {
    serde_json::value::to_raw_value(answer).map_err(|_| EventError::Unavailable)
}
