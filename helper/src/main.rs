//! `terraform-credentials-stile`: runs one verb, and reports a failure as one line and exit code 1.

mod cli;
mod doctor;
mod get_token;
mod install;
mod protocol;
mod stored;
mod terminal;
mod terraform;
mod verb;
mod whoami;

use std::process::ExitCode;
use std::time::Duration;

use clap::Parser as _;
use terraform_credentials_stile::clock::Clock;
use terraform_credentials_stile::config::Environment;

use crate::cli::{Cli, Verb};
use crate::verb::VerbContext;

fn main() -> ExitCode {
    #[expect(clippy::disallowed_methods, reason = "only `main` reads the system clock")]
    let clock = Clock::starting_at(chrono::Utc::now());
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            let _shown = error.print();
            return if error.use_stderr() { ExitCode::FAILURE } else { ExitCode::SUCCESS };
        }
    };
    let Cli { config, region, profile, timeout, verb } = cli;
    let environment =
        Environment { timeout: timeout.map(Duration::from_secs), ..Environment::read() };
    let context = VerbContext { environment, clock, config, region, profile };
    let for_terraform = matches!(verb, Verb::Get { .. } | Verb::Store { .. } | Verb::Forget { .. });
    let done = match verb {
        Verb::Get { host } => protocol::get(&context, &host),
        Verb::Store { host } => protocol::store(&context, &host),
        Verb::Forget { host } => protocol::forget(&context, &host),
        Verb::GetToken(wanted) => get_token::run(&context, &wanted),
        Verb::Install(wanted) => install::run(&context, &wanted),
        Verb::Whoami { host } => whoami::run(&context, &host),
        Verb::Doctor { host } => doctor::run(&context, host.as_ref()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            terminal::report_failure(&failure.to_string(), for_terraform);
            ExitCode::FAILURE
        }
    }
}
