//! The settings of metrics: where a server has them, and whether a function writes them.

use std::net::SocketAddr;

use clap::Args;

use crate::metrics::{CloudWatchNamespace, NamespaceError};

/// The options of metrics.
#[derive(Debug, Clone, Default, Args)]
pub struct MetricsOptions {
    /// Answer `GET /metrics` at this loopback address, in the format OpenMetrics
    ///
    /// Every process on this machine can read them. They contain names of modules and webhooks. A
    /// Lambda function ignores the option. Default: off. Example: 127.0.0.1:9464
    #[arg(long, env = "STILE_METRICS_LISTEN", value_name = "ADDRESS")]
    pub metrics_listen: Option<SocketAddr>,

    /// Write metrics to the log of the function, for this namespace of CloudWatch
    ///
    /// Only for a Lambda function. CloudWatch has a price for each metric and month. Default: off.
    /// Example: stile
    #[arg(long, env = "STILE_METRICS_NAMESPACE", value_name = "NAMESPACE")]
    pub metrics_namespace: Option<String>,
}

/// The settings of metrics.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MetricsConfig {
    /// The address of the endpoint. `None` if there is none.
    pub listen: Option<SocketAddr>,
    /// The namespace in CloudWatch. `None` if a function writes no metrics.
    pub namespace: Option<CloudWatchNamespace>,
}

/// The reason why the settings of metrics are not valid.
#[derive(Debug, thiserror::Error)]
pub enum MetricsConfigError {
    /// Other machines could read the metrics, which need no token.
    #[error(
        "`--metrics-listen {0}` is not a loopback address, and metrics need no token; hint: use a loopback address such as 127.0.0.1:{port}",
        port = .0.port()
    )]
    NotLoopback(SocketAddr),
    /// CloudWatch does not accept the namespace.
    #[error("`--metrics-namespace` is not valid")]
    Namespace(#[source] NamespaceError),
}

impl TryFrom<MetricsOptions> for MetricsConfig {
    type Error = MetricsConfigError;

    fn try_from(options: MetricsOptions) -> Result<Self, MetricsConfigError> {
        let listen = options.metrics_listen;
        if let Some(address) = listen.filter(|address| !address.ip().is_loopback()) {
            return Err(MetricsConfigError::NotLoopback(address));
        }
        // An option without a value counts as not set.
        let namespace = options.metrics_namespace.filter(|namespace| !namespace.is_empty());
        let namespace = namespace.as_deref().map(CloudWatchNamespace::parse).transpose();
        Ok(Self { listen, namespace: namespace.map_err(MetricsConfigError::Namespace)? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_endpoint_is_on_loopback_only() {
        let config = |address: &str| {
            MetricsConfig::try_from(MetricsOptions {
                metrics_listen: Some(address.parse().unwrap()),
                metrics_namespace: Some(String::new()),
            })
        };
        for address in ["0.0.0.0:9464", "10.0.0.1:9464", "[::]:9464", "[2001:db8::1]:9464"] {
            let error = config(address).unwrap_err().to_string();
            assert!(error.contains(address) && error.contains("loopback"), "{error}");
        }
        for address in ["127.0.0.1:9464", "127.1.2.3:0", "[::1]:9464"] {
            let listen = config(address).unwrap().listen;
            assert_eq!(listen.map(|listen| listen.to_string()).as_deref(), Some(address));
        }
    }
}
