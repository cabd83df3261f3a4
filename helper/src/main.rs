//! `terraform-credentials-stile`: runs one verb, and reports a failure as one line and exit code 1.

mod check;
mod cli;
mod doctor;
mod failure_log;
mod get_token;
mod install;
mod installed;
mod lock_file;
mod notice;
mod protocol;
mod show;
mod stored;
mod terminal;
mod terraform;
mod verb;
mod whoami;

use std::io::IsTerminal as _;
use std::process::{Command, ExitCode};
use std::time::Duration;

use clap::{CommandFactory as _, FromArgMatches as _};
use terraform_credentials_stile::clock::Clock;
use terraform_credentials_stile::config::Environment;

use crate::cli::{Cli, ConfigVerb, Verb};
use crate::verb::VerbContext;

fn main() -> ExitCode {
    #[expect(clippy::disallowed_methods, reason = "only `main` reads the system clock")]
    let clock = Clock::starting_at(chrono::Utc::now());
    let (parser, arguments) = (Cli::command(), Vec::from_iter(std::env::args_os()));
    let parsed = parser.clone().try_get_matches_from(&arguments);
    let parsed = parsed.and_then(|matches| Ok((Cli::from_arg_matches(&matches)?, matches)));
    let (cli, matches) = match parsed {
        Ok(parsed) => parsed,
        Err(error) => {
            if let Some(code) = show::run_invalid(&parser, &arguments, &error) {
                return code;
            }
            let _shown = error.print();
            return if error.use_stderr() { ExitCode::FAILURE } else { ExitCode::SUCCESS };
        }
    };
    let Cli { config, region, profile, timeout, verb } = cli;
    let environment =
        Environment { timeout: timeout.map(Duration::from_secs), ..Environment::read() };
    if environment.proxies_endpoints()
        && verb.needs_credentials()
        && let Some(code) = restart(&environment)
    {
        return code;
    }
    let context = VerbContext { environment, clock, config, region, profile };
    let for_terraform = matches!(verb, Verb::Get { .. } | Verb::Store { .. } | Verb::Forget { .. });
    let is_get = matches!(verb, Verb::Get { .. });
    let done = match verb {
        Verb::Get { host } => protocol::get(&context, &host),
        Verb::Store { host } => protocol::store(&context, &host),
        Verb::Forget { host } => protocol::forget(&context, &host),
        Verb::GetToken(wanted) => get_token::run(&context, &wanted),
        Verb::Install(wanted) => install::run(&context, &wanted),
        Verb::Whoami { host } => whoami::run(&context, &host),
        Verb::Doctor { host, namespace } => {
            doctor::run(&context, host.as_ref(), namespace.as_ref())
        }
        Verb::Check { folder } => return check::run(&context, &folder),
        Verb::Config { verb: ConfigVerb::Show { host } } => {
            return show::run(&parser, &matches, &context, host.as_ref());
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            let failure = failure.to_string();
            terminal::report_failure(&failure, for_terraform);
            if is_get && !std::io::stderr().is_terminal() {
                failure_log::record(&context.environment, &failure, context.clock.now());
            }
            ExitCode::FAILURE
        }
    }
}

/// Runs the program again with exemptions for the endpoints of AWS credentials.
///
/// The AWS SDK reads its proxies only from the environment, and a process cannot safely change its own.
/// If the restart fails, `credentials` asks no endpoint.
fn restart(environment: &Environment) -> Option<ExitCode> {
    let mut again = Command::new(std::env::current_exe().ok()?);
    again.args(std::env::args_os().skip(1));
    again.envs(environment.missing_proxy_exemptions.iter().map(|(name, value)| (name, value)));
    run_instead(again)
}

/// Replaces this process, so that signals of Terraform reach the program. It returns only on failure.
#[cfg(unix)]
fn run_instead(mut program: Command) -> Option<ExitCode> {
    use std::os::unix::process::CommandExt as _;
    let _failed = program.exec();
    None
}

/// Runs the program and returns its exit code.
#[cfg(not(unix))]
fn run_instead(mut program: Command) -> Option<ExitCode> {
    let status = program.status().ok()?;
    Some(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
