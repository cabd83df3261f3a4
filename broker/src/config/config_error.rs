//! The reason why a configuration is not valid.

use std::net::SocketAddr;

use stile_protocol::audience::AudienceError;
use stile_protocol::exchange;

use super::{LINK_TTL, MetricsConfigError};
use crate::authn::gateway::IamSourceError;
use crate::authn::sigv4::{EndpointError, STS_TIMEOUT};
use stile_core::trust::IssuerUrlError;
use stile_store::{DISK_RESERVE_MIB, EndpointsError, EventBusNameError, STORE_TIMEOUT};

/// The reason why a configuration is not valid.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The host is not a registry host.
    #[error("`--host` is not a registry host")]
    Host(#[source] AudienceError),
    /// The host is missing.
    #[error(
        "`--host` is required with `--data`; hint: use the host that users write in Terraform, for example `--host registry.example.com`"
    )]
    NoHost,
    /// AWS does not have the region.
    #[error("`--regions`: AWS has no region `{0}`")]
    Region(String),
    /// The region has no FIPS endpoint.
    #[error(
        "`--fips`: region `{0}` has no FIPS endpoint; hint: list only regions with a FIPS endpoint in `--regions`"
    )]
    NoFips(&'static str),
    /// The longest lifetime is out of bounds.
    #[error("`--max-ttl` must be from {min} to {max} seconds", min = exchange::MIN_TTL, max = exchange::MAX_TTL)]
    MaxTtl,
    /// The default lifetime is out of bounds.
    #[error("`--default-ttl` must be from {min} to {max} seconds", min = exchange::MIN_TTL, max = exchange::MAX_TTL)]
    DefaultTtl,
    /// An issuer has no valid URL.
    #[error("`--private-issuers`: `{0}` is not the URL of an issuer")]
    PrivateIssuer(String, #[source] IssuerUrlError),
    /// The trusted API has no valid name.
    #[error("`--iam-source` is not valid")]
    IamSource(#[source] IamSourceError),
    /// The base path of the authorizer is not valid.
    #[error(
        "`--authorizer-base` must be a path of letters, digits, `-`, `_` and `.`, such as `/` or `/terraform`"
    )]
    AuthorizerBase,
    /// The event bus has no valid name.
    #[error("`--event-bus` is not valid")]
    EventBus(#[source] EventBusNameError),
    /// The lifetime of signed URLs is out of bounds.
    #[error("`--link-ttl` must be from {min} to {max} seconds", min = LINK_TTL.start(), max = LINK_TTL.end())]
    LinkTtl,
    /// The timeout for the store is out of bounds.
    #[error("`--store-timeout` must be from {min} to {max} seconds", min = STORE_TIMEOUT.start(), max = STORE_TIMEOUT.end())]
    StoreTimeout,
    /// The disk reserve is out of bounds.
    #[error("`--disk-reserve` must be from {min} to {max} MiB", min = DISK_RESERVE_MIB.start(), max = DISK_RESERVE_MIB.end())]
    DiskReserve,
    /// The timeout for STS is out of bounds.
    #[error("`--sts-timeout` must be from {min} to {max} seconds", min = STS_TIMEOUT.start(), max = STS_TIMEOUT.end())]
    StsTimeout,
    /// The configuration has no store, or two.
    #[error(
        "exactly one of `--data` and `--table` is required; hint: use `--data DIR`, or `--table NAME --bucket NAME --kms-key KEY`"
    )]
    Store,
    /// The AWS SDK cannot use one of its variables.
    #[error(transparent)]
    AwsEndpoints(#[from] EndpointsError),
    /// A flag of the store on AWS is missing.
    #[error("`--table` requires `{0}`")]
    MissingFlag(&'static str),
    /// A flag of the store on AWS is set for an embedded store.
    #[error("`{0}` requires `--table`, and cannot be used with `--data`")]
    FlagOfTable(&'static str),
    /// A flag of the embedded store is set for a store on AWS.
    #[error("`{0}` requires `--data`, and cannot be used with `--table`")]
    FlagOfFolder(&'static str),
    /// A process on this machine could impersonate any principal in a store on AWS.
    #[error(
        "a loopback `--sts-endpoint` cannot be combined with a real AWS table: any local process could impersonate any principal; hint: remove it, or set `AWS_ENDPOINT_URL` to an emulator on this machine, and no variable of one service such as `AWS_ENDPOINT_URL_S3`"
    )]
    LoopbackSts,
    /// The settings of metrics are not valid.
    #[error(transparent)]
    Metrics(#[from] MetricsConfigError),
    /// An endpoint for STS is not valid.
    #[error("`--sts-endpoint` is not valid")]
    Sts(#[source] EndpointError),
    /// Tokens would cross the network without encryption.
    #[error(
        "`--listen {0}` is not a loopback address, and without TLS others could read tokens; hint: set `--tls-cert` and `--tls-key`, or `--behind-proxy` if a proxy terminates TLS"
    )]
    PlainHttp(SocketAddr),
}
