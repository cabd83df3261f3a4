//! Reads the configuration once, from flags and environment. No option disables a security check.

mod authorizer_base;
mod aws_endpoints;
mod config_error;
mod metrics;
mod regions;

use std::ffi::OsStr;
use std::fmt;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Command, ValueEnum};
use stile_protocol::audience::Audience;
use stile_protocol::exchange;
use stile_protocol::region::Region;

pub use self::authorizer_base::AuthorizerBase;
pub use self::config_error::ConfigError;
pub use self::metrics::{MetricsConfig, MetricsConfigError, MetricsOptions};
use crate::authn::gateway::IamSource;
use crate::authn::sigv4::{Endpoint, Endpoints, STS_TIMEOUT, StsTimeouts};
use crate::client_source::ClientSource;
use stile_core::package::SIGNED_URL_LIFETIME;
use stile_core::trust::IssuerUrl;
use stile_store::{
    AwsDeadlines, AwsEndpoints, DISK_RESERVE_MIB, EmbeddedDeadlines, EventBusName, Place,
    STORE_TIMEOUT,
};

/// Returns whether this process is a Lambda function. Lambda sets the address of its runtime API.
pub fn under_lambda() -> bool {
    #[expect(
        clippy::disallowed_methods,
        reason = "the broker reads its environment here, and below for its flags"
    )]
    std::env::var_os("AWS_LAMBDA_RUNTIME_API").is_some()
}

/// Returns a variable that the AWS SDK reads itself.
pub(crate) fn variable_of_aws(name: &str) -> Option<String> {
    #[expect(
        clippy::disallowed_methods,
        reason = "one of the places where the broker reads its environment"
    )]
    std::env::var(name).ok()
}

/// The prefix of the broker's own variables.
const VARIABLES: &[u8] = b"STILE_";

/// Returns the command without the broker's own variables that are set to nothing: they are not set.
///
/// Templates often leave a variable empty. The variables of the AWS SDK stay, because the SDK reads
/// them, too.
pub fn without_empty_variables(command: Command) -> Command {
    #[expect(
        clippy::disallowed_methods,
        reason = "the second of the two places where the broker reads its environment"
    )]
    let is_empty = |name: &OsStr| std::env::var_os(name).is_some_and(|value| value.is_empty());
    without_variables(command, &is_empty)
}

/// Returns the command without the broker's own variables of which `is_empty` is true.
fn without_variables(command: Command, is_empty: &impl Fn(&OsStr) -> bool) -> Command {
    let ignored = |name: &OsStr| name.as_encoded_bytes().starts_with(VARIABLES) && is_empty(name);
    command
        .mut_args(|option| {
            if option.get_env().is_some_and(ignored) {
                option.env(None::<&'static str>)
            } else {
                option
            }
        })
        .mut_subcommands(|subcommand| without_variables(subcommand, is_empty))
}

/// The options of `serve` and `check`. Each flag has an environment variable.
#[derive(Debug, Clone, Args)]
pub struct Options {
    /// Set the registry host, as users write it in Terraform
    ///
    /// Proofs and tokens are valid for this host only. Required with `--data`. With `--table`, the
    /// host can be in the table instead (`stile-admin store init --host HOST`); if both are set,
    /// they must be equal. Example: registry.example.com
    #[arg(long, env = "STILE_HOST", value_name = "HOST")]
    pub host: Option<String>,

    /// Use the store in this data folder: database, archives and keyring
    ///
    /// Either this or `--table` is required. Create the folder with `stile-admin store init --data
    /// DIR`. Example: /var/lib/stile
    #[arg(long, env = "STILE_DATA", value_name = "DIR")]
    pub data: Option<PathBuf>,

    /// Use the store on AWS, with this DynamoDB table
    ///
    /// Either this or `--data` is required. Requires `--bucket` and `--kms-key`. Region and
    /// credentials are those of AWS tools. Example: stile
    #[arg(long, env = "STILE_TABLE", value_name = "NAME")]
    pub table: Option<String>,

    /// Store archives in this S3 bucket, which must have versioning enabled
    #[arg(long, env = "STILE_BUCKET", value_name = "NAME")]
    pub bucket: Option<String>,

    /// Encrypt the keyring with this KMS key: its id, ARN or alias
    ///
    /// Example: alias/stile
    #[arg(long, env = "STILE_KMS_KEY", value_name = "KEY")]
    pub kms_key: Option<String>,

    /// Encrypt archives with this KMS key
    ///
    /// Default: the default encryption of the bucket.
    #[arg(long, env = "STILE_BUCKET_KMS_KEY", value_name = "KEY")]
    pub bucket_kms_key: Option<String>,

    /// Sign the heads of the audit chains with this asymmetric KMS key: its id, ARN or alias
    ///
    /// Only with `--table`: a data folder has a key of its own. The key needs the usage SIGN_VERIFY
    /// and the specification ECC_NIST_P256. Default: nothing is signed, so `stile-admin audit verify`
    /// cannot find a chain that was written again. Example: alias/stile-audit
    #[arg(long, env = "STILE_AUDIT_KEY", value_name = "KEY")]
    pub audit_key: Option<String>,

    /// Keep audit events in the data folder for this many days, from 1 to 36500, or 0 for ever
    ///
    /// The broker removes whole segments of a chain, and only after it has signed where they end.
    /// Only with `--data`: on AWS, `stile-admin audit expire` does it. Default: 400. Example: 730
    #[arg(long, env = "STILE_AUDIT_DAYS", value_name = "DAYS", value_parser = clap::value_parser!(u32).range(0..=36_500))]
    pub audit_days: Option<u32>,

    /// The endpoints in the variables of the AWS SDK.
    #[command(flatten)]
    pub aws_endpoints: AwsEndpoints,

    /// Listen on this address
    #[arg(long, env = "STILE_LISTEN", value_name = "ADDRESS", default_value = "127.0.0.1:8443")]
    pub listen: SocketAddr,

    /// Serve TLS with this certificate chain, a PEM file
    ///
    /// Without it, the broker serves plain HTTP. Plain HTTP requires a loopback address or
    /// `--behind-proxy`.
    /// The broker takes a renewed certificate into service without a restart.
    #[arg(long, env = "STILE_TLS_CERT", value_name = "FILE", requires = "tls_key")]
    pub tls_cert: Option<PathBuf>,

    /// Serve TLS with this private key, a PEM file
    #[arg(long, env = "STILE_TLS_KEY", value_name = "FILE", requires = "tls_cert")]
    pub tls_key: Option<PathBuf>,

    /// Serve plain HTTP on any address, because a proxy in front of the broker terminates TLS
    #[arg(long, env = "STILE_BEHIND_PROXY", conflicts_with = "tls_cert")]
    pub behind_proxy: bool,

    /// Accept proofs signed for these AWS regions, comma-separated
    ///
    /// Default: every commercial region. Example: us-east-1,eu-central-1
    #[arg(long, env = "STILE_REGIONS", value_name = "REGIONS", value_delimiter = ',')]
    pub regions: Vec<String>,

    /// Allow these issuers of JWTs to be at private addresses: their URLs, comma-separated
    ///
    /// Without it, the broker reads the keys of an issuer only from public addresses. A trust of the
    /// issuer is required, too. Use it for GitHub Enterprise Server or GitLab inside a network.
    /// Example: `https://gitlab.corp.example`
    #[arg(long, env = "STILE_PRIVATE_ISSUERS", value_name = "URLS", value_delimiter = ',')]
    pub private_issuers: Vec<String>,

    /// Limit the lifetime of a token to this many seconds, from 60 to 43200
    #[arg(long, env = "STILE_MAX_TTL", value_name = "SECONDS", default_value_t = 3600)]
    pub max_ttl: i64,

    /// Set the lifetime of a token from `GET /v1/token` for callers that ask for none, in seconds
    ///
    /// From 60 to 43200.
    #[arg(long, env = "STILE_DEFAULT_TTL", value_name = "SECONDS", default_value_t = 3600)]
    pub default_ttl: i64,

    /// Trust this API to identify callers of `GET /v1/token`: account, and API or function URL id
    ///
    /// Only for a Lambda function. A principal that can invoke the function can then mint a token
    /// for any caller. So grant `lambda:InvokeFunction` to that API only. Default: none. Example:
    /// 111122223333/abcdef1234
    #[arg(long, env = "STILE_IAM_SOURCE", value_name = "ACCOUNT/API")]
    pub iam_source: Option<String>,

    /// Trust this many proxies to name their client in `X-Forwarded-For`, from 1 to 10
    ///
    /// Only with `--behind-proxy`. The broker then shares its requests to STS by the addresses of the
    /// clients. Default: it does not know their addresses.
    #[arg(
        long,
        env = "STILE_TRUSTED_HOPS",
        value_name = "COUNT",
        value_parser = clap::value_parser!(u8).range(1..=10),
        requires = "behind_proxy"
    )]
    pub trusted_hops: Option<u8>,

    /// Serve as the authorizer of API Gateway, for a registry whose routes begin at this path
    ///
    /// Only for a Lambda function. Default: the broker rejects authorizer events. Example: / or
    /// /terraform
    #[arg(long, env = "STILE_AUTHORIZER_BASE", value_name = "PATH")]
    pub authorizer_base: Option<String>,

    /// Serve the OpenAPI document of the API at `/openapi.json`
    ///
    /// Anyone can read it there, without a token. `stile-broker openapi` prints the same document.
    #[arg(long, env = "STILE_OPENAPI")]
    pub openapi: bool,

    /// Send events to this bus of Amazon EventBridge: its name or ARN
    ///
    /// Region and credentials are those of AWS tools, also with `--data`. Set it for every broker of
    /// the registry. Default: events go only to webhooks. Example: stile
    #[arg(long, env = "STILE_EVENT_BUS", value_name = "BUS")]
    pub event_bus: Option<String>,

    /// Set the lifetime of a signed URL for an archive, from 60 to 3600 seconds
    #[arg(long, env = "STILE_LINK_TTL", value_name = "SECONDS", default_value_t = SIGNED_URL_LIFETIME)]
    pub link_ttl: i64,

    /// Call STS only at its FIPS 140 endpoints
    #[arg(long, env = "STILE_FIPS")]
    pub fips: bool,

    /// Connect to this endpoint for STS: a VPC endpoint of a region, or an emulator on this machine
    ///
    /// The server at the endpoint can give every caller any identity. The signed request stays the
    /// same. Example: `us-east-1=https://vpce-0abc.sts.us-east-1.vpce.amazonaws.com`
    #[arg(long, env = "STILE_STS_ENDPOINT", value_name = "ENDPOINT", value_delimiter = ',')]
    pub sts_endpoint: Vec<String>,

    /// Wait at most this many seconds for the store, from 1 to 600
    ///
    /// After that, the broker answers with 503. Default: 4 with `--table`, 5 with `--data`.
    #[arg(long, env = "STILE_STORE_TIMEOUT", value_name = "SECONDS")]
    pub store_timeout: Option<u64>,

    /// Refuse to publish if less than this many MiB of disk space would stay free, from 1 to 1048576
    ///
    /// Tokens, grants, revocations and keys need this space. Only with `--data`. Default: 64.
    #[arg(long, env = "STILE_DISK_RESERVE", value_name = "MIB")]
    pub disk_reserve: Option<u64>,

    /// Wait at most this many seconds for STS, from 1 to 600
    ///
    /// After that, the broker answers with 504. Default: 3.
    #[arg(long, env = "STILE_STS_TIMEOUT", value_name = "SECONDS")]
    pub sts_timeout: Option<u64>,

    /// The options of metrics.
    #[command(flatten)]
    pub metrics: MetricsOptions,

    /// Log at this level: error, warn, info, debug, or per module as in `info,stile_broker=debug`
    #[arg(long, env = "STILE_LOG", value_name = "LEVEL", default_value = "info")]
    pub log: String,

    /// Write the log in this format
    ///
    /// A Lambda function always writes JSON, because its alarms read the log.
    #[arg(
        long,
        env = "STILE_LOG_FORMAT",
        value_name = "FORMAT",
        value_enum,
        default_value_t = LogFormat::Text
    )]
    pub log_format: LogFormat,
}

/// The format of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// One JSON object for each line
    Json,
    /// Lines for people
    // An option without a value counts as not set.
    #[value(alias = "")]
    Text,
}

/// The files for TLS.
#[derive(Debug, Clone)]
pub struct TlsFiles {
    /// The PEM file with the certificate chain.
    pub cert: PathBuf,
    /// The PEM file with the private key.
    pub key: PathBuf,
}

/// The location of the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StoreLocation {
    /// An embedded store in this folder.
    Folder(PathBuf),
    /// A store on AWS.
    Aws {
        /// The table, the bucket and the KMS keys.
        place: Place,
        /// The URL of an AWS emulator on this machine.
        emulator: Option<String>,
    },
}

impl fmt::Display for StoreLocation {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Folder(folder) => write!(formatter, "data folder {}", folder.display()),
            Self::Aws { place, .. } => write!(formatter, "table {}", place.table),
        }
    }
}

/// A configuration without contradictions. `boot` finds out whether its services are reachable.
#[derive(Debug, Clone)]
pub struct Config {
    /// The registry host, if it is configured; otherwise the table has it.
    pub host: Option<Audience>,
    /// The location of the store.
    pub store: StoreLocation,
    /// The address to listen on.
    pub listen: SocketAddr,
    /// The TLS files, if the broker terminates TLS.
    pub tls: Option<TlsFiles>,
    /// Whether nothing terminates TLS: not the broker, and no proxy or gateway in front of it.
    pub plain_http: bool,
    /// Where the broker finds the address of a client.
    pub clients: ClientSource,
    /// The regions for which proofs may be signed.
    pub regions: Vec<&'static Region>,
    /// The issuers of JWTs that can be at private addresses.
    pub private_issuers: Vec<IssuerUrl>,
    /// The longest lifetime of a token, in seconds.
    pub max_ttl: i64,
    /// The lifetime of a token from `GET /v1/token` for callers that ask for none, in seconds.
    pub default_ttl: i64,
    /// The API that the broker trusts to identify its callers.
    pub iam_source: Option<IamSource>,
    /// The path at which the routes of the guarded registry begin.
    pub authorizer_base: Option<AuthorizerBase>,
    /// Whether the broker serves the OpenAPI document of its API.
    pub openapi: bool,
    /// The bus to which events go, in addition to webhooks.
    pub event_bus: Option<EventBusName>,
    /// The lifetime of a signed URL for an archive, in seconds.
    pub link_ttl: i64,
    /// Whether the broker calls STS at its FIPS endpoints.
    pub fips: bool,
    /// The endpoints that replace those of STS.
    pub sts: Endpoints,
    /// The number of days for which a data folder keeps audit events. `None`: for ever, or the store
    /// is on AWS.
    pub audit_days: Option<u32>,
    /// The longest wait for the store, if it differs from the store's default.
    pub store_timeout: Option<Duration>,
    /// The free disk space that uploads leave, in bytes, if it differs from the store's default.
    pub disk_reserve: Option<u64>,
    /// The time limits for STS.
    pub sts_timeouts: StsTimeouts,
    /// The settings of metrics.
    pub metrics: MetricsConfig,
}

impl Config {
    /// Returns the time limits of an embedded store.
    pub fn embedded_deadlines(&self) -> EmbeddedDeadlines {
        self.store_timeout.map_or_else(EmbeddedDeadlines::default, EmbeddedDeadlines::within)
    }

    /// Returns the time limits of a store on AWS.
    pub fn aws_deadlines(&self) -> AwsDeadlines {
        self.store_timeout.map_or_else(AwsDeadlines::default, AwsDeadlines::within)
    }
}

impl TryFrom<Options> for Config {
    type Error = ConfigError;

    fn try_from(options: Options) -> Result<Self, ConfigError> {
        // An option without a value counts as not set.
        let host = options.host.as_deref().filter(|host| !host.is_empty());
        let host = host.map(Audience::parse).transpose().map_err(ConfigError::Host)?;
        if !(exchange::MIN_TTL..=exchange::MAX_TTL).contains(&options.max_ttl) {
            return Err(ConfigError::MaxTtl);
        }
        if !(exchange::MIN_TTL..=exchange::MAX_TTL).contains(&options.default_ttl) {
            return Err(ConfigError::DefaultTtl);
        }
        let iam_source = options
            .iam_source
            .as_deref()
            .map(IamSource::parse)
            .transpose()
            .map_err(ConfigError::IamSource)?;
        let authorizer_base = options
            .authorizer_base
            .as_deref()
            .map(|text| AuthorizerBase::parse(text).ok_or(ConfigError::AuthorizerBase))
            .transpose()?;
        // An option without a value counts as not set.
        let event_bus = options.event_bus.as_deref().filter(|bus| !bus.is_empty());
        let event_bus =
            event_bus.map(EventBusName::parse).transpose().map_err(ConfigError::EventBus)?;
        if event_bus.is_some() {
            options.aws_endpoints.check()?;
        }
        let regions = regions::enabled(&without_empty(&options.regions), options.fips)?;
        let private_issuers = without_empty(&options.private_issuers)
            .iter()
            .map(|text| {
                text.parse().map_err(|error| ConfigError::PrivateIssuer(text.clone(), error))
            })
            .collect::<Result<Vec<IssuerUrl>, _>>()?;
        let store = store_location(&options)?;
        if host.is_none() && matches!(store, StoreLocation::Folder(_)) {
            return Err(ConfigError::NoHost);
        }
        let tls = options.tls_cert.zip(options.tls_key).map(|(cert, key)| TlsFiles { cert, key });
        if tls.is_none() && !options.behind_proxy && !options.listen.ip().is_loopback() {
            return Err(ConfigError::PlainHttp(options.listen));
        }
        let plain_http = tls.is_none() && !options.behind_proxy && !under_lambda();
        let clients = match options.trusted_hops {
            Some(hops) => ClientSource::Forwarded { hops },
            None if options.behind_proxy => ClientSource::Unknown,
            None => ClientSource::Connection,
        };
        if !LINK_TTL.contains(&options.link_ttl) {
            return Err(ConfigError::LinkTtl);
        }
        let store_timeout = within(options.store_timeout, &STORE_TIMEOUT)
            .map_err(|OutOfBounds| ConfigError::StoreTimeout)?;
        let disk_reserve = options.disk_reserve;
        if disk_reserve.is_some_and(|mib| !DISK_RESERVE_MIB.contains(&mib)) {
            return Err(ConfigError::DiskReserve);
        }
        let audit_days = match store {
            StoreLocation::Folder(_) => Some(options.audit_days.unwrap_or(AUDIT_DAYS)),
            StoreLocation::Aws { .. } => None,
        };
        let audit_days = audit_days.filter(|days| *days > 0);
        let sts_timeout = within(options.sts_timeout, &STS_TIMEOUT)
            .map_err(|OutOfBounds| ConfigError::StsTimeout)?;
        let endpoints = without_empty(&options.sts_endpoint)
            .iter()
            .map(|text| Endpoint::parse(text))
            .collect::<Result<Vec<_>, _>>()
            .map_err(ConfigError::Sts)?;
        let sts = Endpoints::new(endpoints);
        if sts.is_loopback() && matches!(store, StoreLocation::Aws { emulator: None, .. }) {
            return Err(ConfigError::LoopbackSts);
        }
        Ok(Self {
            host,
            store,
            listen: options.listen,
            tls,
            plain_http,
            clients,
            regions,
            private_issuers,
            max_ttl: options.max_ttl,
            default_ttl: options.default_ttl,
            iam_source,
            authorizer_base,
            openapi: options.openapi,
            event_bus,
            link_ttl: options.link_ttl,
            fips: options.fips,
            sts,
            audit_days,
            store_timeout,
            disk_reserve: disk_reserve.map(|mib| mib << 20),
            metrics: options.metrics.try_into()?,
            sts_timeouts: sts_timeout.map_or_else(StsTimeouts::default, StsTimeouts::within),
        })
    }
}

/// A number of seconds that is not within its bounds.
struct OutOfBounds;

/// Returns the duration, if it is within the bounds.
fn within(
    seconds: Option<u64>,
    bounds: &RangeInclusive<u64>,
) -> Result<Option<Duration>, OutOfBounds> {
    match seconds {
        Some(seconds) if !bounds.contains(&seconds) => Err(OutOfBounds),
        other => Ok(other.map(Duration::from_secs)),
    }
}

/// Returns the list, or an empty list for an option without a value, which counts as not set.
fn without_empty(list: &[String]) -> Vec<String> {
    if list == [""] { Vec::new() } else { list.to_vec() }
}

/// The allowed lifetimes of signed URLs, in seconds: long enough for every client, and not longer
/// than the lifetime of the credentials that sign them.
const LINK_TTL: RangeInclusive<i64> = 60..=3600;

/// The number of days for which a data folder keeps audit events by default: a year, and time to look.
pub const AUDIT_DAYS: u32 = 400;

/// Returns the location of the store that the flags select.
fn store_location(options: &Options) -> Result<StoreLocation, ConfigError> {
    let parts = [
        ("--bucket", options.bucket.is_some()),
        ("--kms-key", options.kms_key.is_some()),
        ("--bucket-kms-key", options.bucket_kms_key.is_some()),
        ("--audit-key", options.audit_key.is_some()),
    ];
    match (&options.data, &options.table) {
        (Some(folder), None) => match parts.iter().find(|(_, given)| *given) {
            Some((flag, _)) => Err(ConfigError::FlagOfTable(flag)),
            None => {
                // The broker calls S3 for versions with an object, also from a folder.
                options.aws_endpoints.check()?;
                Ok(StoreLocation::Folder(folder.clone()))
            }
        },
        (None, Some(_)) if options.disk_reserve.is_some() => {
            Err(ConfigError::FlagOfFolder("--disk-reserve"))
        }
        (None, Some(_)) if options.audit_days.is_some() => {
            Err(ConfigError::FlagOfFolder("--audit-days"))
        }
        (None, Some(table)) => {
            let place = Place {
                table: table.clone(),
                bucket: options.bucket.clone().ok_or(ConfigError::MissingFlag("--bucket"))?,
                kms_key: options.kms_key.clone().ok_or(ConfigError::MissingFlag("--kms-key"))?,
                bucket_kms_key: options.bucket_kms_key.clone(),
                audit_key: options.audit_key.clone(),
            };
            options.aws_endpoints.check()?;
            let emulator = aws_endpoints::emulator(&options.aws_endpoints).map(str::to_owned);
            Ok(StoreLocation::Aws { place, emulator })
        }
        _ => Err(ConfigError::Store),
    }
}

#[cfg(test)]
mod tests;
