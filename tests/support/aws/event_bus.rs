//! An event bus in the emulator, with a queue that gets every event of the bus.

use std::time::Duration;

use serde_json::{Value, json};
use stile_store::{EventBus, EventBusName, ServiceCalls};

use crate::aws::emulated::{EmulatedAws, REGION};
use crate::aws::moto::ACCOUNT;
use crate::time_limits;

/// The time between two looks for events.
const ASK: Duration = Duration::from_millis(50);

/// A bus with a queue behind it.
#[derive(Debug)]
pub struct EmulatedBus<'a> {
    aws: &'a EmulatedAws,
    name: String,
    queue_url: String,
}

impl<'a> EmulatedBus<'a> {
    /// Creates a bus, a queue, and a rule that hands every event of the registry to the queue.
    pub async fn create(aws: &'a EmulatedAws) -> Self {
        let name = aws.place.table.clone();
        let events = async |action: &str, body: Value| {
            aws.call("events", "AWSEvents", action, &body).await;
        };
        let queue =
            aws.call("sqs", "AmazonSQS", "CreateQueue", &json!({ "QueueName": name })).await;
        let queue_url = queue["QueueUrl"].as_str().unwrap().to_owned();
        events("CreateEventBus", json!({ "Name": name })).await;
        let pattern = json!({ "source": ["stile"] }).to_string();
        let rule = json!({ "Name": name, "EventBusName": name, "EventPattern": pattern });
        events("PutRule", rule).await;
        let arn = format!("arn:aws:sqs:{REGION}:{ACCOUNT}:{name}");
        let targets = json!([{ "Id": "queue", "Arn": arn }]);
        let targets = json!({ "Rule": name, "EventBusName": name, "Targets": targets });
        events("PutTargets", targets).await;
        Self { aws, name, queue_url }
    }

    /// Returns the name of the bus.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns the ARN of the bus.
    pub fn arn(&self) -> String {
        format!("arn:aws:events:{REGION}:{ACCOUNT}:event-bus/{}", self.name)
    }

    /// Connects to the bus as a broker does.
    pub fn client(&self) -> EventBus {
        self.client_of(&self.name)
    }

    /// Connects to a bus of that name or ARN.
    pub fn client_of(&self, name: &str) -> EventBus {
        EventBus::on(
            EventBusName::parse(name).unwrap(),
            &self.aws.sdk(),
            time_limits::aws(),
            &ServiceCalls::default(),
        )
    }

    /// Waits until an event arrives, and takes all that have.
    pub async fn wait(&self) -> Vec<Value> {
        let came = time_limits::wait(async {
            let mut tick = tokio::time::interval(ASK);
            loop {
                tick.tick().await;
                let events = self.take().await;
                if !events.is_empty() {
                    return events;
                }
            }
        });
        came.await.expect("an event arrives")
    }

    /// Takes the events that have arrived, in no order.
    pub async fn take(&self) -> Vec<Value> {
        let mut events = Vec::new();
        loop {
            let asked = json!({ "QueueUrl": self.queue_url, "MaxNumberOfMessages": 10 });
            let answer = self.aws.call("sqs", "AmazonSQS", "ReceiveMessage", &asked).await;
            let messages = answer["Messages"].as_array().cloned().unwrap_or_default();
            if messages.is_empty() {
                return events;
            }
            for message in messages {
                events.push(serde_json::from_str(message["Body"].as_str().unwrap()).unwrap());
                let receipt = json!({
                    "QueueUrl": self.queue_url, "ReceiptHandle": message["ReceiptHandle"],
                });
                self.aws.call("sqs", "AmazonSQS", "DeleteMessage", &receipt).await;
            }
        }
    }
}
