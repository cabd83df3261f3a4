//! Reads the configuration, from flags and the environment, once. Nothing here switches a check off.

mod authorizer_base;

use std::fmt;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use stile_protocol::audience::{Audience, AudienceError};
use stile_protocol::exchange;
use stile_protocol::region::{Partition, REGIONS, Region};

pub use self::authorizer_base::AuthorizerBase;
use crate::authn::gateway::{IamSource, IamSourceError};
use crate::authn::sigv4::{Endpoint, EndpointError, Endpoints, STS_TIMEOUT, StsTimeouts};
use stile_core::package::SIGNED_URL_LIFETIME;
use stile_store::{Place, STORE_TIMEOUT};

/// Whether this process is a Lambda function, which Lambda says by naming the address of its runtime API.
pub fn under_lambda() -> bool {
    #[expect(
        clippy::disallowed_methods,
        reason = "the one place where the broker reads its environment beside its flags"
    )]
    std::env::var_os("AWS_LAMBDA_RUNTIME_API").is_some()
}

/// What `serve` and `check` take; every flag has an environment variable.
#[derive(Debug, Clone, Args)]
pub struct Options {
    /// Set the registry's host as users write it in Terraform
    ///
    /// Proofs and tokens are made for this host alone. Required, but where `--table` has it from
    /// `stile-admin store init --host HOST`; then it must be the same, or be left out. Example: registry.example.com
    #[arg(long, env = "STILE_HOST", value_name = "HOST")]
    pub host: Option<String>,

    /// Keep everything in this folder: database, archives and keyring
    ///
    /// Either this or `--table`. Make it first with `stile-admin store init --data DIR`. Example: /var/lib/stile
    #[arg(long, env = "STILE_DATA", value_name = "DIR")]
    pub data: Option<PathBuf>,

    /// Keep everything on AWS: in this DynamoDB table, with `--bucket` and `--kms-key`
    ///
    /// Either this or `--data`. Region and credentials come as they do to the AWS CLI. Example: stile
    #[arg(long, env = "STILE_TABLE", value_name = "NAME")]
    pub table: Option<String>,

    /// Keep archives in this S3 bucket, which must keep versions
    #[arg(long, env = "STILE_BUCKET", value_name = "NAME")]
    pub bucket: Option<String>,

    /// Encrypt the keyring under this KMS key: its id, ARN or alias
    ///
    /// Example: alias/stile
    #[arg(long, env = "STILE_KMS_KEY", value_name = "KEY")]
    pub kms_key: Option<String>,

    /// Encrypt archives under this KMS key
    ///
    /// Default: whatever the bucket encrypts with by itself.
    #[arg(long, env = "STILE_BUCKET_KMS_KEY", value_name = "KEY")]
    pub bucket_kms_key: Option<String>,

    /// The SDK's own variable, read here to know an emulator of AWS on this machine
    #[arg(long, env = "AWS_ENDPOINT_URL", value_name = "URL", hide = true)]
    pub aws_endpoint: Option<String>,

    /// Listen on this address
    #[arg(long, env = "STILE_LISTEN", value_name = "ADDRESS", default_value = "127.0.0.1:8443")]
    pub listen: SocketAddr,

    /// Serve TLS with this certificate chain, a PEM file
    ///
    /// Without it the broker speaks plain HTTP, which is allowed on loopback or with `--behind-proxy`.
    #[arg(long, env = "STILE_TLS_CERT", value_name = "FILE", requires = "tls_key")]
    pub tls_cert: Option<PathBuf>,

    /// Serve TLS with this private key, a PEM file
    #[arg(long, env = "STILE_TLS_KEY", value_name = "FILE", requires = "tls_cert")]
    pub tls_key: Option<PathBuf>,

    /// Speak plain HTTP on an address others can reach, because a proxy before it speaks TLS
    #[arg(long, env = "STILE_BEHIND_PROXY", conflicts_with = "tls_cert")]
    pub behind_proxy: bool,

    /// Accept proofs signed for these AWS regions, comma-separated
    ///
    /// Default: every commercial region. Example: us-east-1,eu-central-1
    #[arg(long, env = "STILE_REGIONS", value_name = "REGIONS", value_delimiter = ',')]
    pub regions: Vec<String>,

    /// Let no token live longer than this many seconds, from 60 to 43200
    #[arg(long, env = "STILE_MAX_TTL", value_name = "SECONDS", default_value_t = 3600)]
    pub max_ttl: i64,

    /// Give a token of `GET /v1/token` this life where the caller names none, from 60 to 43200 seconds
    #[arg(long, env = "STILE_DEFAULT_TTL", value_name = "SECONDS", default_value_t = 3600)]
    pub default_ttl: i64,

    /// Believe this API about who calls `GET /v1/token`: account and API id, or function URL id
    ///
    /// For a Lambda function alone. Whoever may invoke the function can then mint for anybody, so grant
    /// `lambda:InvokeFunction` to that API and nobody else. Default: none. Example: 111122223333/abcdef1234
    #[arg(long, env = "STILE_IAM_SOURCE", value_name = "ACCOUNT/API")]
    pub iam_source: Option<String>,

    /// Answer API Gateway as its authorizer, for a registry whose routes begin at this path
    ///
    /// For a Lambda function alone. Default: every such question is refused. Example: / or /terraform
    #[arg(long, env = "STILE_AUTHORIZER_BASE", value_name = "PATH")]
    pub authorizer_base: Option<String>,
    /// Let a link to an archive be good for this many seconds, from 60 to 3600
    #[arg(long, env = "STILE_LINK_TTL", value_name = "SECONDS", default_value_t = SIGNED_URL_LIFETIME)]
    pub link_ttl: i64,

    /// Ask STS at its FIPS 140 endpoints only
    #[arg(long, env = "STILE_FIPS")]
    pub fips: bool,

    /// Connect elsewhere for STS: a VPC endpoint for a region, or an emulator on this machine
    ///
    /// Whoever answers there decides who everybody is. What is signed stays the same.
    /// Example: `us-east-1=https://vpce-0abc.sts.us-east-1.vpce.amazonaws.com`
    #[arg(long, env = "STILE_STS_ENDPOINT", value_name = "ENDPOINT", value_delimiter = ',')]
    pub sts_endpoint: Vec<String>,

    /// Wait for the store no longer than this many seconds, from 1 to 600
    ///
    /// A request that waits longer is answered with 503. Default: 4 with `--table`, 5 with `--data`.
    #[arg(long, env = "STILE_STORE_TIMEOUT", value_name = "SECONDS")]
    pub store_timeout: Option<u64>,

    /// Wait for STS no longer than this many seconds, from 1 to 600
    ///
    /// An exchange that waits longer is answered with 504. Default: 3.
    #[arg(long, env = "STILE_STS_TIMEOUT", value_name = "SECONDS")]
    pub sts_timeout: Option<u64>,

    /// Log at this level: error, warn, info, debug, or per module as in `info,stile_broker=debug`
    #[arg(long, env = "STILE_LOG", value_name = "LEVEL", default_value = "info")]
    pub log: String,
}

/// A certificate chain and its key.
#[derive(Debug, Clone)]
pub struct TlsFiles {
    /// PEM file of the chain.
    pub cert: PathBuf,
    /// PEM file of the key.
    pub key: PathBuf,
}

/// Where everything is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kept {
    /// In this folder.
    Folder(PathBuf),
    /// On AWS.
    Aws {
        /// In which table and bucket, under which key.
        place: Place,
        /// The URL of what answers for AWS on this machine.
        emulator: Option<String>,
    },
}

impl fmt::Display for Kept {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Folder(folder) => write!(formatter, "data folder {}", folder.display()),
            Self::Aws { place, .. } => write!(formatter, "table {}", place.table),
        }
    }
}

/// A configuration that makes sense by itself; whether what it names can be reached, boot finds out.
#[derive(Debug, Clone)]
pub struct Config {
    /// The registry's host, where it is told and not read from the table.
    pub host: Option<Audience>,
    /// Where everything is kept.
    pub kept: Kept,
    /// The address to listen on.
    pub listen: SocketAddr,
    /// TLS, where the broker speaks it itself.
    pub tls: Option<TlsFiles>,
    /// The regions proofs may be signed for.
    pub regions: Vec<&'static Region>,
    /// The longest life of a token, in seconds.
    pub max_ttl: i64,
    /// The life of a token of `GET /v1/token` that names none, in seconds.
    pub default_ttl: i64,
    /// The API that is believed about its callers, where one is.
    pub iam_source: Option<IamSource>,
    /// Where the routes of a registry begin that this function guards, where it guards one.
    pub authorizer_base: Option<AuthorizerBase>,
    /// How long a link to an archive is good for, in seconds.
    pub link_ttl: i64,
    /// Whether STS is asked at its FIPS endpoints.
    pub fips: bool,
    /// Where STS is asked elsewhere than at AWS.
    pub sts: Endpoints,
    /// How long the broker waits for the store, where that differs from the store's default.
    pub store_timeout: Option<Duration>,
    /// How long the broker waits for STS.
    pub sts_timeouts: StsTimeouts,
}

/// What is wrong with the configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The host is none.
    #[error("`--host` is no registry host")]
    Host(#[source] AudienceError),
    /// Nothing says the host.
    #[error(
        "`--host` is needed with `--data`; hint: `--host registry.example.com`, as users write it in Terraform"
    )]
    NoHost,
    /// There is no such region.
    #[error("`--regions`: AWS has no region `{0}`")]
    Region(String),
    /// A region has no FIPS endpoint.
    #[error(
        "`--fips`: region `{0}` has no FIPS endpoint; hint: name the regions that have one with `--regions`"
    )]
    NoFips(&'static str),
    /// The longest life is out of bounds.
    #[error("`--max-ttl` must be from {min} to {max} seconds", min = exchange::MIN_TTL, max = exchange::MAX_TTL)]
    MaxTtl,
    /// The life of tokens that name none is out of bounds.
    #[error("`--default-ttl` must be from {min} to {max} seconds", min = exchange::MIN_TTL, max = exchange::MAX_TTL)]
    DefaultTtl,
    /// The API that is to be believed is none.
    #[error("`--iam-source`: {0}")]
    IamSource(#[source] IamSourceError),
    /// The routes cannot begin there.
    #[error(
        "`--authorizer-base` must be a path of letters, digits, `-`, `_` and `.`, such as `/` or `/terraform`"
    )]
    AuthorizerBase,
    /// Links would live too long, or not long enough to be followed.
    #[error("`--link-ttl` must be from {min} to {max} seconds", min = LINK_TTL.start(), max = LINK_TTL.end())]
    LinkTtl,
    /// The wait for the store is out of bounds.
    #[error("`--store-timeout` must be from {min} to {max} seconds", min = STORE_TIMEOUT.start(), max = STORE_TIMEOUT.end())]
    StoreTimeout,
    /// The wait for STS is out of bounds.
    #[error("`--sts-timeout` must be from {min} to {max} seconds", min = STS_TIMEOUT.start(), max = STS_TIMEOUT.end())]
    StsTimeout,
    /// There is no store, or there are two.
    #[error(
        "exactly one of `--data` and `--table` is needed; hint: `--data DIR` keeps everything on this machine"
    )]
    Kept,
    /// A part of the store on AWS is not named.
    #[error("`--table` needs `{0}`")]
    Lacks(&'static str),
    /// Something is named that the embedded store has no use for.
    #[error("`{0}` goes with `--table`, not with `--data`")]
    Beside(&'static str),
    /// Somebody on this machine would decide who may enter what others rely on.
    #[error(
        "`--sts-endpoint` on this machine decides who everybody is, and the table is AWS's; hint: leave it out, or let `AWS_ENDPOINT_URL` name an emulator on this machine as well"
    )]
    LoopbackSts,
    /// A place for STS is none.
    #[error("`--sts-endpoint` names no place for STS")]
    Sts(#[source] EndpointError),
    /// Tokens would travel in the clear.
    #[error(
        "`--listen {0}` can be reached by others, and without TLS they could read tokens; hint: give `--tls-cert` and `--tls-key`, or `--behind-proxy` where a proxy speaks TLS"
    )]
    PlainHttp(SocketAddr),
}

impl TryFrom<Options> for Config {
    type Error = ConfigError;

    fn try_from(options: Options) -> Result<Self, ConfigError> {
        // A variable that is set to nothing says nothing.
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
        let regions = regions(&said(&options.regions), options.fips)?;
        let kept = kept(&options)?;
        if host.is_none() && matches!(kept, Kept::Folder(_)) {
            return Err(ConfigError::NoHost);
        }
        let tls = options.tls_cert.zip(options.tls_key).map(|(cert, key)| TlsFiles { cert, key });
        if tls.is_none() && !options.behind_proxy && !options.listen.ip().is_loopback() {
            return Err(ConfigError::PlainHttp(options.listen));
        }
        if !LINK_TTL.contains(&options.link_ttl) {
            return Err(ConfigError::LinkTtl);
        }
        let store_timeout = within(options.store_timeout, &STORE_TIMEOUT)
            .map_err(|OutOfBounds| ConfigError::StoreTimeout)?;
        let sts_timeout = within(options.sts_timeout, &STS_TIMEOUT)
            .map_err(|OutOfBounds| ConfigError::StsTimeout)?;
        let endpoints = said(&options.sts_endpoint)
            .iter()
            .map(|text| Endpoint::parse(text))
            .collect::<Result<Vec<_>, _>>()
            .map_err(ConfigError::Sts)?;
        let sts = Endpoints::new(endpoints);
        if sts.is_loopback() && matches!(kept, Kept::Aws { emulator: None, .. }) {
            return Err(ConfigError::LoopbackSts);
        }
        Ok(Self {
            host,
            kept,
            listen: options.listen,
            tls,
            regions,
            max_ttl: options.max_ttl,
            default_ttl: options.default_ttl,
            iam_source,
            authorizer_base,
            link_ttl: options.link_ttl,
            fips: options.fips,
            sts,
            store_timeout,
            sts_timeouts: sts_timeout.map_or_else(StsTimeouts::default, StsTimeouts::within),
        })
    }
}

/// A number of seconds that is less than the least, or more than the most.
struct OutOfBounds;

/// So many seconds, if they are within bounds.
fn within(
    seconds: Option<u64>,
    bounds: &RangeInclusive<u64>,
) -> Result<Option<Duration>, OutOfBounds> {
    match seconds {
        Some(seconds) if !bounds.contains(&seconds) => Err(OutOfBounds),
        other => Ok(other.map(Duration::from_secs)),
    }
}

/// A variable that is set to nothing says nothing.
fn said(list: &[String]) -> Vec<String> {
    if list == [""] { Vec::new() } else { list.to_vec() }
}

/// How long links may live: longer than a client needs to follow one, and no longer than any credentials they are signed with.
const LINK_TTL: RangeInclusive<i64> = 60..=3600;

fn kept(options: &Options) -> Result<Kept, ConfigError> {
    let parts = [
        ("--bucket", options.bucket.is_some()),
        ("--kms-key", options.kms_key.is_some()),
        ("--bucket-kms-key", options.bucket_kms_key.is_some()),
    ];
    match (&options.data, &options.table) {
        (Some(folder), None) => match parts.iter().find(|(_, given)| *given) {
            Some((flag, _)) => Err(ConfigError::Beside(flag)),
            None => Ok(Kept::Folder(folder.clone())),
        },
        (None, Some(table)) => {
            let place = Place {
                table: table.clone(),
                bucket: options.bucket.clone().ok_or(ConfigError::Lacks("--bucket"))?,
                kms_key: options.kms_key.clone().ok_or(ConfigError::Lacks("--kms-key"))?,
                bucket_kms_key: options.bucket_kms_key.clone(),
            };
            Ok(Kept::Aws {
                place,
                emulator: options.aws_endpoint.clone().filter(|url| is_loopback(url)),
            })
        }
        _ => Err(ConfigError::Kept),
    }
}

/// Whether the URL stays on this machine, as far as can be told without asking anybody: a name could resolve to anything.
fn is_loopback(url: &str) -> bool {
    matches!(Endpoint::parse(url.trim_end_matches('/')), Ok(Endpoint::Loopback(_)))
}

fn regions(named: &[String], fips: bool) -> Result<Vec<&'static Region>, ConfigError> {
    if named.is_empty() {
        return Ok(REGIONS
            .iter()
            .filter(|region| region.partition == Partition::Aws && region.host(fips).is_some())
            .collect());
    }
    named
        .iter()
        .map(|name| {
            let region = Region::named(name).ok_or_else(|| ConfigError::Region(name.clone()))?;
            if region.host(fips).is_none() {
                Err(ConfigError::NoFips(region.name))
            } else {
                Ok(region)
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        options: Options,
    }

    fn config(flags: &[&str]) -> Result<Config, ConfigError> {
        config_of(&[&["--data", "/d"], flags].concat())
    }

    fn config_of(flags: &[&str]) -> Result<Config, ConfigError> {
        config_alone(&[&["--host", "registry.example.com"], flags].concat())
    }

    fn config_alone(flags: &[&str]) -> Result<Config, ConfigError> {
        Cli::try_parse_from(["x"].iter().chain(flags)).unwrap().options.try_into()
    }

    #[test]
    fn what_makes_no_sense_is_refused_with_what_to_do() {
        for (flags, expected) in [
            (vec!["--listen", "0.0.0.0:8443"], "`--behind-proxy`"),
            (vec!["--max-ttl", "43201"], "from 60 to 43200"),
            (vec!["--max-ttl", "59"], "from 60 to 43200"),
            (vec!["--default-ttl", "59"], "from 60 to 43200"),
            (vec!["--iam-source", "abcdef1234"], "111122223333/abcdef1234"),
            (vec!["--authorizer-base", "terraform"], "such as `/`"),
            (vec!["--authorizer-base", "/a//b"], "such as `/`"),
            (vec!["--authorizer-base", "/a/*"], "such as `/`"),
            (vec!["--authorizer-base", "/a/.."], "such as `/`"),
            (vec!["--regions", "us-attacker-1"], "no region `us-attacker-1`"),
            (vec!["--regions", "us-east-1,"], "no region ``"),
            (
                vec!["--regions", "us-east-1,cn-north-1", "--fips"],
                "`cn-north-1` has no FIPS endpoint",
            ),
            (vec!["--sts-endpoint", "https://sts.example.com"], "VPC endpoint"),
            (vec!["--link-ttl", "59"], "from 60 to 3600"),
            (vec!["--link-ttl", "3601"], "from 60 to 3600"),
            (vec!["--store-timeout", "0"], "`--store-timeout` must be from 1 to 600 seconds"),
            (vec!["--store-timeout", "601"], "`--store-timeout` must be from 1 to 600 seconds"),
            (vec!["--sts-timeout", "0"], "`--sts-timeout` must be from 1 to 600 seconds"),
            (vec!["--sts-timeout", "601"], "`--sts-timeout` must be from 1 to 600 seconds"),
            (vec!["--table", "t"], "exactly one of `--data` and `--table`"),
            (vec!["--bucket", "b"], "`--bucket` goes with `--table`"),
        ] {
            let error = format!("{:#}", anyhow::Error::from(config(&flags).unwrap_err()));
            assert!(error.contains(expected), "{flags:?}: {error}");
        }
    }

    #[test]
    fn a_store_on_aws_is_named_in_full_and_sts_stays_aws_s_unless_all_is_emulated() {
        let aws = ["--table", "t", "--bucket", "b", "--kms-key", "k"];
        let (sts, emulator) =
            (["--sts-endpoint", "http://127.0.0.1:1"], ["--aws-endpoint", "http://127.0.0.1:2/"]);
        for (flags, expected) in [
            (vec![], "exactly one of"),
            (aws[..2].to_vec(), "`--table` needs `--bucket`"),
            (aws[..4].to_vec(), "`--table` needs `--kms-key`"),
            ([&aws[..], &sts].concat(), "`AWS_ENDPOINT_URL`"),
            (
                [&aws[..], &sts, &["--aws-endpoint", "http://localhost:2"]].concat(),
                "`AWS_ENDPOINT_URL`",
            ),
            (
                [&aws[..], &sts, &["--aws-endpoint", "https://dynamodb.us-east-1.amazonaws.com"]]
                    .concat(),
                "`AWS_ENDPOINT_URL`",
            ),
            (
                [&aws[..], &sts, &["--aws-endpoint", "http://127.0.0.1.evil.org"]].concat(),
                "`AWS_ENDPOINT_URL`",
            ),
        ] {
            let error = config_of(&flags).unwrap_err().to_string();
            assert!(error.contains(expected), "{flags:?}: {error}");
        }
        assert!(config_of(&aws).is_ok());
        let all = config_of(&[&aws[..], &sts, &emulator].concat()).unwrap();
        assert!(matches!(all.kept, Kept::Aws { emulator: Some(url), .. } if url == emulator[1]));
    }

    #[test]
    fn the_host_is_told_or_stands_in_a_table() {
        let aws = ["--table", "t", "--bucket", "b", "--kms-key", "k"];
        for (flags, expected) in [
            (vec!["--data", "/d"], "`--host` is needed with `--data`"),
            (vec!["--data", "/d", "--host", ""], "`--host` is needed with `--data`"),
            ([&aws[..], &["--host", "localhost"]].concat(), "no registry host"),
        ] {
            let error = config_alone(&flags).unwrap_err().to_string();
            assert!(error.contains(expected), "{flags:?}: {error}");
        }
        for (flags, expected) in [
            (aws.to_vec(), None),
            ([&aws[..], &["--host", ""]].concat(), None),
            (
                [&aws[..], &["--host", "Registry.example.com:443"]].concat(),
                Some("registry.example.com"),
            ),
        ] {
            assert_eq!(
                config_alone(&flags).unwrap().host.as_ref().map(Audience::as_str),
                expected,
                "{flags:?}"
            );
        }
    }

    #[test]
    fn by_default_every_commercial_region_is_enabled_and_no_other() {
        assert!(
            config(&["--regions", "", "--sts-endpoint", ""]).unwrap().regions.len() > 30,
            "set to nothing is not set"
        );
        let regions = config(&[]).unwrap().regions;
        assert!(
            regions.iter().all(|region| region.partition == Partition::Aws) && regions.len() > 30
        );
        assert!(
            config(&["--fips"]).unwrap().regions.iter().all(|region| region.fips_host.is_some())
        );
        assert_eq!(
            config(&["--regions", "cn-north-1"]).unwrap().regions[0].host,
            "sts.cn-north-1.amazonaws.com.cn"
        );
    }

    #[test]
    fn the_waits_for_store_and_sts_are_an_operators_to_choose() {
        let unset = config(&[]).unwrap();
        assert_eq!((unset.store_timeout, unset.sts_timeouts.total.as_secs()), (None, 3));
        let set = config(&["--store-timeout", "600", "--sts-timeout", "60"]).unwrap();
        assert_eq!(set.store_timeout, Some(Duration::from_secs(600)));
        assert_eq!(
            (set.sts_timeouts.connect.as_secs(), set.sts_timeouts.total.as_secs()),
            (20, 60)
        );
    }

    #[test]
    fn plain_http_is_for_loopback_and_proxies() {
        assert!(config(&["--listen", "127.0.0.1:0"]).is_ok());
        assert!(config(&["--listen", "0.0.0.0:80", "--behind-proxy"]).is_ok());
        assert!(
            config(&["--listen", "0.0.0.0:443", "--tls-cert", "c", "--tls-key", "k"])
                .unwrap()
                .tls
                .is_some()
        );
    }
}
