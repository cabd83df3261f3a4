//! `config show`: the settings of the helper, where each comes from, and its value. It sends nothing.

use std::ffi::OsString;
use std::io::{ErrorKind, Write as _};
use std::process::ExitCode;

use clap::{ArgMatches, Command};
use stile_protocol::audience::Audience;
use stile_protocol::region::Region;
use stile_settings::mask::mask;
use stile_settings::{Settings, Source, flags};
use terraform_credentials_stile::config::{Proof, RegistryConfig, Service};
use terraform_credentials_stile::credentials::{check_profile, configured_region};
use terraform_credentials_stile::exchange::ExchangeError;
use terraform_credentials_stile::id_token::IdTokens;
use terraform_credentials_stile::message::chain;
use terraform_credentials_stile::settings::{self, Layers};

use crate::terminal;
use crate::terraform;
use crate::verb::{VerbContext, VerbFailure, block_on};

/// The verb, below the program.
const SHOW: [&str; 2] = ["config", "show"];

/// Shows what the helper uses for one registry, or for every configured one.
pub(crate) fn run(
    parser: &Command,
    matches: &ArgMatches,
    typed: &VerbContext,
    host: Option<&Audience>,
) -> ExitCode {
    // Terraform passes the `args` of the block to the helper.
    let block = terraform::own_block(&typed.environment)
        .and_then(|(path, helper)| Some((path, helper.flags().ok()?)));
    let source = |flag: &str| match (flags::source_of(parser, matches, flag), &block) {
        (Source::Default, Some((path, flags)))
            if match flag {
                "config" => flags.config.is_some(),
                "region" => flags.region.is_some(),
                "profile" => flags.profile.is_some(),
                _ => false,
            } =>
        {
            Source::File(path.display().to_string())
        }
        (source, _) => source,
    };
    let context = match &block {
        Some((_, flags)) => &typed.with_fallback(flags),
        None => typed,
    };
    let shown = block_on(async { Ok(shown(context, host, &source).await) });
    match shown {
        Ok((settings, error)) => print(&settings, error.as_ref()),
        Err(failure) => print(&Settings::default(), Some(&failure)),
    }
}

/// Shows the flags of a command line with a value that clap refuses, if the verb is this one.
pub(crate) fn run_invalid(
    parser: &Command,
    arguments: &[OsString],
    error: &clap::Error,
) -> Option<ExitCode> {
    let matches = flags::with_wrong_values(parser, arguments, error)?;
    flags::below(parser, &matches, &SHOW)?;
    let settings = Settings::default().group("helper", flags::settings(parser, &matches, |_| None));
    Some(print(&settings, Some(&VerbFailure::new(flags::sentence(error)))))
}

/// Returns the settings, and the first reason why the helper cannot use them.
async fn shown(
    context: &VerbContext,
    host: Option<&Audience>,
    source: &impl Fn(&str) -> Source,
) -> (Settings, Option<VerbFailure>) {
    let environment = &context.environment;
    let path = context.config.clone().or_else(|| environment.default_config());
    let rows = vec![
        settings::file(path.as_deref(), source("config")),
        settings::timeout(environment, source("timeout")),
    ];
    let mut all = Settings::default().group("helper", rows);
    let mut problem = None;
    match context.load_config() {
        Err(failure) => problem = Some(failure),
        Ok(config) => {
            let flag = |key: &str| {
                let is_flag = ["region", "profile"].contains(&key);
                is_flag.then(|| source(key)).filter(|source| *source != Source::Default)
            };
            let layers = Layers { path, config: &config, flag };
            let hosts: Vec<Audience> = match host {
                Some(host) => vec![host.clone()],
                None => config.registries().map(|registry| registry.host.clone()).collect(),
            };
            for host in hosts {
                match context.registry(&host) {
                    Ok(registry) => {
                        let rows = layers.registry(&registry, environment).await;
                        all = all.group(format!("registry {host}"), rows);
                        problem = problem.or(problem_of(context, &registry).await);
                    }
                    Err(failure) => problem = problem.or(Some(failure)),
                }
            }
        }
    }
    let all = settings::with_variables(all, environment);
    (all.group("proxies", settings::exemptions(environment)), problem)
}

/// Returns why the helper cannot sign for a registry, as far as that is known without a request.
async fn problem_of(context: &VerbContext, registry: &RegistryConfig) -> Option<VerbFailure> {
    let environment = &context.environment;
    if registry.proof == Proof::Oidc {
        let error = IdTokens::find(registry).err()?;
        return Some(VerbFailure::new(chain(&error)).hint(error.hint()));
    }
    if let Err(error) = check_profile(registry, environment).await {
        return Some(VerbFailure::new(chain(&error)).hint(error.hint()));
    }
    let (region, _) = configured_region(registry, environment).await?;
    let is_unknown = registry.service == Service::Sts && Region::named(region.as_ref()).is_none();
    is_unknown.then(|| {
        let error = ExchangeError::UnknownRegion(region.to_string());
        let failure = VerbFailure::new(error.to_string());
        VerbFailure { hint: error.hint(), ..failure }
    })
}

/// Prints the settings, and the error to standard error. It returns 2 if there is an error.
fn print(settings: &Settings, error: Option<&VerbFailure>) -> ExitCode {
    let printed = write!(std::io::stdout(), "{settings}");
    if let Some(failure) = error {
        terminal::report_failure(&mask(&failure.to_string()), false);
        return ExitCode::from(2);
    }
    match printed {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => ExitCode::from(2),
        _ => ExitCode::SUCCESS,
    }
}
