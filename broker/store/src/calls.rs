//! Counts the calls of other services and of the database, and how long they take.
//!
//! All labels come from this program: none has a name that a caller chose.

use std::borrow::Cow;
use std::future::Future;
use std::time::{Duration, Instant};

use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;

use crate::{StoreError, StoreErrorKind};

/// The upper bounds of the buckets of durations, in seconds: from a read of memory to a timeout.
const BUCKETS: [f64; 13] =
    [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

macro_rules! label {
    ($(#[$outer:meta])* $type:ident { $($(#[$doc:meta])* $name:ident = $text:literal,)+ }) => {
        $(#[$outer])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum $type {
            $($(#[$doc])* $name,)+
        }

        impl $type {
            /// Returns the value of the label.
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$name => $text,)+
                }
            }
        }

        impl EncodeLabelValue for $type {
            fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> std::fmt::Result {
                self.as_str().encode(encoder)
            }
        }
    };
}

label! {
    /// A service that a broker calls: the label `service`.
    Service {
        /// The database of a data folder.
        Sqlite = "sqlite",
        /// DynamoDB.
        DynamoDb = "dynamodb",
        /// S3.
        S3 = "s3",
        /// KMS.
        Kms = "kms",
        /// EventBridge.
        EventBridge = "eventbridge",
        /// STS.
        Sts = "sts",
        /// The issuers of JWTs, all of them.
        Issuer = "issuer",
    }
}

label! {
    /// How a call ended: the label `result`.
    CallResult {
        /// The service did what the call asked for.
        Ok = "ok",
        /// The service answered that it does not do it, for example because a condition is not met.
        Refused = "refused",
        /// The service has too much to do.
        Busy = "busy",
        /// The service did not answer in time.
        Timeout = "timeout",
        /// There is no connection to the service, or it broke.
        Unreachable = "unreachable",
        /// The service failed, or its answer is not usable.
        Failed = "failed",
    }
}

impl CallResult {
    /// Returns the result of an operation of the store.
    const fn of(error: Option<StoreErrorKind>) -> Self {
        match error {
            None => Self::Ok,
            Some(StoreErrorKind::Busy) => Self::Busy,
            Some(_) => Self::Failed,
        }
    }
}

/// The labels of the number of calls.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct CallLabels {
    service: Service,
    operation: Cow<'static, str>,
    result: CallResult,
}

/// The labels of the durations of calls.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct OperationLabels {
    service: Service,
    operation: Cow<'static, str>,
}

/// The numbers of calls.
pub type CallsCounted = Family<CallLabels, Counter>;

/// The durations of calls, in seconds.
pub type CallDurations = Family<OperationLabels, Histogram, fn() -> Histogram>;

/// The calls of one process. Clones count together.
#[derive(Debug, Clone)]
pub struct ServiceCalls {
    counted: CallsCounted,
    durations: CallDurations,
}

impl Default for ServiceCalls {
    fn default() -> Self {
        let counted = CallsCounted::default();
        Self { counted, durations: Family::new_with_constructor(|| Histogram::new(BUCKETS)) }
    }
}

impl ServiceCalls {
    /// Returns the number of calls by service, operation and result.
    pub const fn counted(&self) -> &CallsCounted {
        &self.counted
    }

    /// Returns the durations of calls by service and operation.
    pub const fn durations(&self) -> &CallDurations {
        &self.durations
    }

    /// Counts one call.
    ///
    /// `operation` must be a name that the program or the SDK has, and never one of a caller: each
    /// name is a series until the process ends.
    pub fn record(
        &self,
        service: Service,
        operation: impl Into<Cow<'static, str>>,
        result: CallResult,
        took: Duration,
    ) {
        let operation = operation.into();
        let labels = OperationLabels { service, operation: operation.clone() };
        self.durations.get_or_create(&labels).observe(took.as_secs_f64());
        self.counted.get_or_create(&CallLabels { service, operation, result }).inc();
    }

    /// Runs one operation of the store, and counts it.
    pub(crate) async fn measure<T>(
        &self,
        service: Service,
        operation: &'static str,
        work: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        let started = Instant::now();
        let done = work.await;
        let result = CallResult::of(done.as_ref().err().map(StoreError::kind));
        self.record(service, operation, result, started.elapsed());
        done
    }
}
