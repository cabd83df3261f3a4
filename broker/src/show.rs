//! Shows the configuration of a broker: each value as [`Config`] has it, and where it comes from.
//!
//! It opens no store and sends nothing.

use clap::{ArgMatches, Command};
use stile_settings::flags::{self, Effective};
use stile_settings::mask::mask;
use stile_settings::{Setting, Settings, Source, variables};
use stile_store::{AwsEndpoints, AwsService, DISK_RESERVE, region_of_profile, region_of_variables};

use crate::config::{Config, Options, StoreLocation, variable_of_aws};
use crate::error_chain::error_chain;

/// The variables of the AWS SDK for the region, in its order.
const REGIONS: [&str; 2] = ["AWS_REGION", "AWS_DEFAULT_REGION"];

/// The profile of the AWS SDK if no variable names one.
const DEFAULT_PROFILE: &str = "default";

/// The settings of a broker, and what is wrong with them.
#[derive(Debug, Default)]
pub struct Shown {
    /// The settings, without secrets.
    pub settings: Settings,
    /// Why no broker would start with these settings.
    pub error: Option<String>,
}

/// Returns the settings that the flags and variables of a command lead to.
///
/// An invalid configuration is shown as the user gave it.
pub async fn shown(command: &Command, matches: &ArgMatches, options: Options) -> Shown {
    let endpoints = options.aws_endpoints.clone();
    let behind_proxy = options.behind_proxy;
    match Config::try_from(options) {
        Ok(config) => {
            let effective = |flag: &str| match flag {
                "behind-proxy" => Some(Effective::of(&behind_proxy)),
                _ => effective(&config, flag),
            };
            let rows = flags::settings(command, matches, effective);
            let aws = aws(&config, &endpoints, command, matches).await;
            let settings = Settings::default().group("broker", rows).group("AWS", aws);
            Shown { settings, error: None }
        }
        Err(error) => as_given(command, matches, &error_chain(&error)),
    }
}

/// Returns the settings of an invalid configuration, as the user gave them.
pub fn as_given(command: &Command, matches: &ArgMatches, error: &str) -> Shown {
    let rows = flags::settings(command, matches, |_| None);
    Shown { settings: Settings::default().group("broker", rows), error: Some(mask(error)) }
}

/// Returns the value that a broker uses in place of the text of a flag.
fn effective(config: &Config, flag: &str) -> Option<Effective> {
    let folder = matches!(config.store, StoreLocation::Folder(_));
    Some(match flag {
        "host" => match &config.host {
            Some(host) => Effective::of(host),
            None => Effective::only("the host that the table has"),
        },
        "listen" => Effective::of(&config.listen),
        "metrics-listen" => Effective::of(&config.metrics.listen?),
        "bucket-kms-key" if !folder => match &config.store {
            StoreLocation::Aws { place, .. } if place.bucket_kms_key.is_none() => {
                Effective::only("the default encryption of the bucket")
            }
            _ => return None,
        },
        "audit-key" if folder => Effective::only("the audit key of the data folder"),
        "audit-key" => match &config.store {
            StoreLocation::Aws { place, .. } if place.audit_key.is_none() => {
                Effective::only("none, so nothing is signed")
            }
            _ => return None,
        },
        "audit-days" if folder => Effective::of(&config.audit_days.unwrap_or_default()),
        "regions" => {
            let names: Vec<&str> = config.regions.iter().map(|region| region.name).collect();
            Effective::of(&names.join(","))
        }
        "authorizer-base" => match config.authorizer_base.as_ref()?.as_str() {
            "" => Effective::of("/"),
            base => Effective::of(base),
        },
        "openapi" => Effective::of(&config.openapi),
        "fips" => Effective::of(&config.fips),
        "store-timeout" if folder => Effective::of(&config.embedded_deadlines().writer.as_secs()),
        "store-timeout" => Effective::of(&config.aws_deadlines().call.as_secs()),
        "disk-reserve" if folder => {
            Effective::of(&(config.disk_reserve.unwrap_or(DISK_RESERVE) >> 20))
        }
        "sts-timeout" => Effective::of(&config.sts_timeouts.total.as_secs()),
        _ => return None,
    })
}

/// Returns which identity and which endpoints the AWS SDK uses for the store and the event bus.
async fn aws(
    config: &Config,
    endpoints: &AwsEndpoints,
    command: &Command,
    matches: &ArgMatches,
) -> Vec<Setting> {
    let emulator = match &config.store {
        StoreLocation::Aws { emulator, .. } => emulator.as_deref(),
        StoreLocation::Folder(_) if config.event_bus.is_none() => return Vec::new(),
        StoreLocation::Folder(_) => None,
    };
    let from = |name: &str| Source::Variable(name.to_owned());
    let profile = match variable_of_aws("AWS_PROFILE") {
        Some(profile) => Setting::new("profile", Some(profile), from("AWS_PROFILE")),
        None => Setting::new("profile", Some(DEFAULT_PROFILE), Source::Default),
    };
    let region = match (Box::pin(region_of_variables()).await, Box::pin(region_of_profile()).await)
    {
        (Some(region), _) => {
            let set = REGIONS.into_iter().find(|name| variable_of_aws(name).is_some());
            Setting::new("region", Some(region), from(set.unwrap_or(REGIONS[0])))
        }
        (None, Some(region)) => {
            Setting::new("region", Some(region), Source::File("of the AWS profile".to_owned()))
        }
        (None, None) => Setting::new("region", None::<&str>, Source::Default)
            .note("that of the instance, if it has one"),
    };
    let mut services = match &config.store {
        StoreLocation::Aws { .. } => vec![AwsService::DynamoDb, AwsService::S3, AwsService::Kms],
        StoreLocation::Folder(_) => Vec::new(),
    };
    services.extend(config.event_bus.as_ref().map(|_| AwsService::EventBridge));
    let source = |flag: &str| flags::source_of(command, matches, flag);
    let resolved = endpoints.settings(&services, emulator, source).await;
    [
        vec![profile, region],
        resolved,
        variables::identity(variable_of_aws),
        variables::proxies(variable_of_aws),
    ]
    .concat()
}
