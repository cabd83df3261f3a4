//! Sends events to a bus of Amazon EventBridge.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, UNIX_EPOCH};

use aws_config::{Region, SdkConfig};
use aws_sdk_eventbridge::operation::describe_event_bus::DescribeEventBusError;
use aws_sdk_eventbridge::types::PutEventsRequestEntry;

use crate::aws::{Genuine, Measured, bounded, configuration, own_retries};
use crate::{AwsDeadlines, Delivery, Service, ServiceCalls, StoreError, StoreErrorKind};

/// The source of every event, which rules match.
const SOURCE: &str = "stile";

/// The most characters of the name or the ARN of a bus.
const MAX_NAME: usize = 1600;

/// The reason why a text is not an event bus.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("it is neither the name nor the ARN of an event bus")]
pub struct EventBusNameError;

/// The name or the ARN of an event bus. The grammar is that of `PutEvents`.
///
/// <https://docs.aws.amazon.com/eventbridge/latest/APIReference/API_PutEventsRequestEntry.html>
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventBusName {
    text: String,
    region: Option<String>,
}

impl EventBusName {
    /// Parses a name or an ARN that an operator configured.
    pub fn parse(text: &str) -> Result<Self, EventBusNameError> {
        let is_of = |text: &str, more: &[u8]| {
            let allowed = |byte: u8| byte.is_ascii_alphanumeric() || more.contains(&byte);
            !text.is_empty() && text.bytes().all(allowed)
        };
        if text.len() > MAX_NAME {
            return Err(EventBusNameError);
        }
        let parts: Vec<&str> = text.split(':').collect();
        let (name, region) = match parts.as_slice() {
            [name] => (*name, None),
            ["arn", partition, "events", region, account, resource]
                if partition.starts_with("aws")
                    && is_of(partition, b"-")
                    && is_of(region, b"-")
                    && account.len() == 12
                    && account.bytes().all(|byte| byte.is_ascii_digit()) =>
            {
                let name = resource.strip_prefix("event-bus/").ok_or(EventBusNameError)?;
                (name, Some((*region).to_owned()))
            }
            _ => return Err(EventBusNameError),
        };
        if is_of(name, b"/.-_") {
            Ok(Self { text: text.to_owned(), region })
        } else {
            Err(EventBusNameError)
        }
    }
}

impl fmt::Display for EventBusName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.text)
    }
}

/// A bus of Amazon EventBridge. The client makes no call before the first event.
#[derive(Clone)]
pub struct EventBus {
    client: aws_sdk_eventbridge::Client,
    name: EventBusName,
    /// Whether this process has seen that the bus is there.
    is_there: Arc<AtomicBool>,
}

impl fmt::Debug for EventBus {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("EventBus").field("name", &self.name).finish_non_exhaustive()
    }
}

impl EventBus {
    /// Connects to a bus without calling it. The SDK finds credentials and endpoints in its own
    /// variables and files. An ARN says in which region the bus is.
    ///
    /// `emulator` is the URL of a service that replaces all of AWS.
    pub async fn connect(
        name: EventBusName,
        emulator: Option<&str>,
        deadlines: AwsDeadlines,
        calls: &ServiceCalls,
    ) -> Self {
        Self::on(name, &configuration(emulator).await, deadlines, calls)
    }

    /// Connects to a bus with this SDK configuration.
    pub fn on(
        name: EventBusName,
        sdk: &SdkConfig,
        deadlines: AwsDeadlines,
        calls: &ServiceCalls,
    ) -> Self {
        let mut config = aws_sdk_eventbridge::config::Builder::from(&bounded(sdk, deadlines))
            .interceptor(Genuine)
            .interceptor(Measured::new(Service::EventBridge, calls))
            .retry_partition(own_retries("eventbridge"));
        if let Some(region) = &name.region {
            config.set_region(Some(Region::new(region.clone())));
        }
        let client = aws_sdk_eventbridge::Client::from_conf(config.build());
        Self { client, name, is_there: Arc::default() }
    }

    /// Returns the name or the ARN of the bus.
    pub const fn name(&self) -> &EventBusName {
        &self.name
    }

    /// Looks whether the bus is there. It is an error if it is not, or if the caller may not look.
    ///
    /// EventBridge answers as if it took an event for a bus that is not there.
    pub async fn look(&self) -> Result<(), StoreError> {
        let asked = self.client.describe_event_bus().name(&self.name.text).send();
        match Box::pin(asked).await {
            Ok(_) => {
                self.is_there.store(true, Ordering::Relaxed);
                Ok(())
            }
            Err(error)
                if error
                    .as_service_error()
                    .is_some_and(DescribeEventBusError::is_resource_not_found_exception) =>
            {
                Err(StoreError::misconfigured(format!("there is no event bus `{}`", self.name)))
            }
            Err(error) => Err(StoreError::unavailable(
                format!("cannot look whether event bus `{}` is there", self.name),
                error,
            )),
        }
    }

    /// Sends an event once. It is an error if EventBridge did not take it.
    ///
    /// Before the first one, it looks whether the bus is there.
    pub async fn send(&self, delivery: &Delivery) -> Result<(), StoreError> {
        if !self.is_there.load(Ordering::Relaxed) {
            self.look().await?;
        }
        let event = &delivery.event;
        let seconds = u64::try_from(event.at).unwrap_or_default();
        let entry = PutEventsRequestEntry::builder()
            .source(SOURCE)
            .detail_type(&event.kind)
            .detail(&event.body)
            .event_bus_name(&self.name.text)
            .time((UNIX_EPOCH + Duration::from_secs(seconds)).into())
            .build();
        let answer = Box::pin(self.client.put_events().entries(entry).send()).await;
        let answer = answer.map_err(|error| {
            StoreError::unavailable(format!("cannot send to event bus `{}`", self.name), error)
        })?;
        // A refused entry is in an answer that is a success.
        match answer.entries() {
            [entry] if answer.failed_entry_count() == 0 && entry.event_id().is_some() => Ok(()),
            entries => {
                let code = entries.iter().find_map(|entry| entry.error_code());
                let message = entries.iter().find_map(|entry| entry.error_message());
                Err(StoreError::new(
                    StoreErrorKind::Unavailable,
                    format!(
                        "event bus `{}` did not take the event: {}: {}",
                        self.name,
                        code.unwrap_or("no code"),
                        message.unwrap_or("no message")
                    ),
                ))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bus_is_a_name_or_an_arn_of_a_bus() {
        let long = "a".repeat(MAX_NAME + 1);
        for text in [
            "",
            "a b",
            "a:b",
            "https://example.com",
            "arn:aws:events:us-east-1:111122223333:rule/a",
            "arn:aws:events:us-east-1:111122223333:event-bus/",
            "arn:aws:events:us-east-1:1111:event-bus/a",
            "arn:aws:events::111122223333:event-bus/a",
            "arn:aws:sns:us-east-1:111122223333:event-bus/a",
            "arn:evil:events:us-east-1:111122223333:event-bus/a",
            "arn:aws:events:us-east-1:111122223333:event-bus/a:b",
            &long,
        ] {
            assert_eq!(EventBusName::parse(text), Err(EventBusNameError), "{text}");
        }
        for (text, region) in [
            ("default", None),
            ("aws.partner/example.com/1", None),
            ("arn:aws:events:eu-west-1:111122223333:event-bus/stile", Some("eu-west-1")),
            ("arn:aws-us-gov:events:us-gov-west-1:111122223333:event-bus/a", Some("us-gov-west-1")),
        ] {
            let parsed = EventBusName::parse(text).unwrap();
            assert_eq!((parsed.to_string(), parsed.region.as_deref()), (text.to_owned(), region));
        }
    }
}
