//! `config show`: the settings of the program, where each comes from, and its value.
//!
//! It opens no store and sends nothing. A store or a registry that is not named is no error, because
//! no command needs both.

use std::ffi::OsString;
use std::process::ExitCode;

use clap::{ArgMatches, Command};
use stile_settings::flags::{self, Effective};
use stile_settings::{Setting, Settings, Source};
use stile_store::AwsService;
use terraform_credentials_stile::config::Environment;
use terraform_credentials_stile::credentials::check_profile;
use terraform_credentials_stile::settings::{self, Layers, NO_REGION};

use crate::aws_session;
use crate::cli::{self, ConfigShow};
use crate::commands::{CommandResult, Context};
use crate::error::CommandError;
use crate::output::{Output, OutputFormat, print_error, set_messages};
use crate::target::StoreLocation;

/// The command, below the program.
const SHOW: [&str; 2] = ["config", "show"];

/// The flags that select a store.
const STORE: [&str; 6] = ["data", "table", "bucket", "kms-key", "audit-key", "store-timeout"];

/// The services that `stile-admin` calls.
const SERVICES: [AwsService; 4] =
    [AwsService::DynamoDb, AwsService::S3, AwsService::Kms, AwsService::Sts];

/// Shows the settings, and fails with the first reason why a command cannot use them.
pub(crate) async fn run(
    context: &Context,
    wanted: &ConfigShow,
    parser: &Command,
    matches: &ArgMatches,
) -> CommandResult {
    let Some((command, matches)) = flags::below(parser, matches, &SHOW) else {
        return Ok(ExitCode::SUCCESS);
    };
    let environment = Environment { timeout: wanted.api.timeout(), ..Environment::read() };
    let shown = Shown { wanted, environment: &environment, command, matches };
    let mut all = Settings::default().group("program", program(context, parser, matches));
    let mut problem = None;
    for part in [shown.store().await, shown.registry().await] {
        all = part.groups.into_iter().fold(all, |all, (title, rows)| all.group(title, rows));
        problem = problem.or(part.problem);
    }
    print(context.output, &settings::with_variables(all, &environment))?;
    problem.map_or(Ok(ExitCode::SUCCESS), |error: CommandError| Err(error.masked()))
}

/// Shows the flags of a command line with a value that clap refuses, if the command is this one.
pub(crate) fn run_invalid(
    parser: &Command,
    arguments: &[OsString],
    error: &clap::Error,
) -> Option<ExitCode> {
    let matches = flags::with_wrong_values(parser, arguments, error)?;
    let (command, matches) = flags::below(parser, &matches, &SHOW)?;
    let form = if cli::asks_for_json(arguments.iter().cloned()) {
        OutputFormat::Json
    } else {
        OutputFormat::Table
    };
    set_messages(form, false);
    let rows = flags::settings(command, matches, |_| None);
    let error = CommandError::usage(flags::sentence(error)).masked();
    let printed = print(Output::new(form), &Settings::default().group("program", rows));
    let error = printed.err().unwrap_or(error);
    print_error(&error);
    Some(error.exit_code())
}

fn print(output: Output, settings: &Settings) -> Result<(), CommandError> {
    output.outcome(settings.to_string().trim_end(), &settings.json())
}

/// Returns the settings of every command.
fn program(context: &Context, parser: &Command, matches: &ArgMatches) -> Vec<Setting> {
    let variable = |name: &str| Source::Variable(name.to_owned());
    let audit_log = cli::audit_log().map(|path| path.display().to_string());
    let audit_source =
        if audit_log.is_some() { variable("STILE_AUDIT_LOG") } else { Source::Default };
    let user_source = if cli::has_user_name() { variable("USER") } else { Source::Default };
    let mut rows = flags::settings(parser, matches, |_| None);
    rows.push(Setting::new("audit-log", audit_log, audit_source));
    rows.push(Setting::new("user", Some(&context.user), user_source));
    rows
}

/// What a command is shown from.
struct Shown<'a> {
    wanted: &'a ConfigShow,
    environment: &'a Environment,
    command: &'a Command,
    matches: &'a ArgMatches,
}

/// A part of the settings, and the first reason why a command cannot use them.
#[derive(Default)]
struct Part {
    groups: Vec<(String, Vec<Setting>)>,
    problem: Option<CommandError>,
}

impl Shown<'_> {
    fn source(&self, flag: &str) -> Source {
        flags::source_of(self.command, self.matches, flag)
    }

    /// Returns the settings of `store`, `namespace`, `grant` and `token`.
    async fn store(&self) -> Part {
        let target = &self.wanted.store;
        let location = target.location();
        let timeout = match &location {
            Ok(StoreLocation::Folder(_)) => Some(target.embedded_deadlines().writer),
            Ok(StoreLocation::Aws(_)) => Some(target.aws_deadlines().call),
            Err(_) => None,
        };
        let effective = |flag: &str| {
            (flag == "store-timeout").then_some(timeout?).map(|time| Effective::of(&time.as_secs()))
        };
        let rows = flags::settings(self.command, self.matches, effective);
        let rows = rows.into_iter().filter(|row| STORE.contains(&row.name())).collect();
        let mut part = Part { groups: vec![("store".to_owned(), rows)], problem: None };
        match location {
            Ok(StoreLocation::Aws(_)) => match self.aws().await {
                Ok(rows) => part.groups.push(("AWS of the store".to_owned(), rows)),
                Err(error) => part.problem = Some(error),
            },
            Err(error) if target.is_named() => part.problem = Some(error),
            Ok(StoreLocation::Folder(_)) | Err(_) => {}
        }
        part
    }

    /// Returns which profile, region and endpoints the store on AWS has.
    async fn aws(&self) -> Result<Vec<Setting>, CommandError> {
        let nobody = aws_session::no_registry()?;
        check_profile(&nobody, self.environment).await?;
        let source = |flag: &str| self.source(flag);
        let endpoints = self.wanted.store.endpoints().settings(&SERVICES, None, source).await;
        let mut rows = vec![
            settings::profile(&nobody, self.environment, Source::Default),
            settings::region(&nobody, self.environment, Source::Default, NO_REGION).await,
        ];
        rows.extend(endpoints);
        Ok(rows)
    }

    /// Returns the settings of `module`.
    async fn registry(&self) -> Part {
        let (api, environment) = (&self.wanted.api, self.environment);
        let path = api.config_path(environment);
        let file = settings::file(path.as_deref(), self.source("config"));
        let timeout = settings::timeout(environment, self.source("timeout"));
        let title = "module".to_owned();
        let config = match api.load_config(environment) {
            Ok(config) => config,
            Err(error) => {
                return Part { groups: vec![(title, vec![file, timeout])], problem: Some(error) };
            }
        };
        let named = api.names_registry();
        let host = |value: Option<&str>| {
            let of_file = path.as_ref().map(|path| Source::File(path.display().to_string()));
            let source = match (named, value) {
                (true, _) => self.source("registry-host"),
                (false, Some(_)) => of_file.unwrap_or(Source::Default),
                (false, None) => Source::Default,
            };
            Setting::new("registry-host", value, source)
        };
        match api.registry_in(&config) {
            Err(error) if named => {
                Part { groups: vec![(title, vec![file, timeout])], problem: Some(error) }
            }
            Err(error) => {
                let host = host(None).note(error.message());
                Part { groups: vec![(title, vec![host, file, timeout])], problem: None }
            }
            Ok(registry) => {
                let first = vec![host(Some(registry.host.as_str())), file, timeout];
                let flag = |key: &str| {
                    let is_flag = ["region", "profile"].contains(&key);
                    is_flag.then(|| self.source(key)).filter(|source| *source != Source::Default)
                };
                let layers = Layers { path: path.clone(), config: &config, flag };
                let rows = layers.registry(&registry, environment).await;
                let of_registry = (format!("registry {}", registry.host), rows);
                let problem = check_profile(&registry, environment).await.err();
                Part {
                    groups: vec![(title, first), of_registry],
                    problem: problem.map(CommandError::from),
                }
            }
        }
    }
}
