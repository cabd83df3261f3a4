//! `stile-admin`: dispatches commands, and reports errors as one line with an exit code.

// The futures of `promote` are deeper than the default allows.
#![recursion_limit = "256"]

mod api;
mod aws_error;
mod aws_session;
mod claims;
mod cli;
mod commands;
mod direct_upload;
mod error;
mod expiry;
mod export;
mod fetch;
mod git;
mod grant_file;
mod output;
mod pack;
mod paged;
mod progress;
mod provider;
mod published;
mod source;
mod target;
mod upload;

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use clap::{ArgMatches, CommandFactory as _, FromArgMatches as _};
use stile_core::clock::Clock;
use stile_settings::mask::mask;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Layer as _, fmt};

use crate::claims::Claims;
use crate::cli::{Cli, ConfigVerb, Noun};
use crate::commands::{
    CommandResult, Context, audit, backup, config_show, grant, module, namespace,
    provider as provider_command, store, token, trust, webhook,
};
use crate::error::CommandError;
use crate::output::{Output, OutputFormat};

fn main() -> ExitCode {
    let (parser, arguments) = (Cli::command(), Vec::from_iter(std::env::args_os()));
    let parsed = parser.clone().try_get_matches_from(&arguments);
    let parsed = parsed.and_then(|matches| Ok((Cli::from_arg_matches(&matches)?, matches)));
    let (Cli { output, quiet, noun }, matches) = match parsed {
        Ok(parsed) => parsed,
        Err(error) => {
            let shown = config_show::run_invalid(&parser, &arguments, &error);
            return shown.unwrap_or_else(|| help_or_usage_error(error));
        }
    };
    output::set_messages(output, quiet);
    let is_change = !matches!(noun, Noun::Config { .. });
    if is_change && let Err(error) = logs(cli::audit_log(), output) {
        output::print_error(&error);
        return error.exit_code();
    }
    let clock = Clock::system();
    let context = Context {
        output: Output::new(output),
        user: cli::local_user(),
        now: clock.now(),
        clock,
        no_colour: cli::no_colour(),
        claims: Claims::of(cli::variable),
    };
    run(&context, noun, (&parser, &matches)).unwrap_or_else(|error| {
        output::print_error(&error);
        error.exit_code()
    })
}

/// Prints the requested help to stdout, or a usage error to stderr.
fn help_or_usage_error(error: clap::Error) -> ExitCode {
    if error.use_stderr() && cli::asks_for_json(std::env::args_os()) {
        output::set_messages(OutputFormat::Json, false);
        let error = CommandError::from(error);
        output::print_error(&error);
        return error.exit_code();
    }
    let text = error.render().to_string();
    let masked = mask(&text);
    let _printed = if error.use_stderr() && masked != text {
        io::stderr().write_all(masked.as_bytes())
    } else {
        error.print()
    };
    ExitCode::from(if error.use_stderr() { 2 } else { 0 })
}

fn run(
    context: &Context,
    noun: Noun,
    (parser, matches): (&clap::Command, &ArgMatches),
) -> CommandResult {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime
        .map_err(|error| CommandError::failed_because("cannot start the async runtime", &error))?;
    let done = runtime.block_on(async {
        match noun {
            Noun::Store { verb } => store::run(context, verb).await,
            Noun::Namespace { verb } => namespace::run(context, verb).await,
            Noun::Grant { verb } => Box::pin(grant::run(context, *verb)).await,
            Noun::Token { verb } => token::run(context, verb).await,
            Noun::Audit(args) => Box::pin(audit::run(context, *args)).await,
            Noun::Trust { verb } => Box::pin(trust::run(context, *verb)).await,
            Noun::Webhook { verb } => webhook::run(context, verb).await,
            Noun::Module { verb } => Box::pin(module::run(context, verb)).await,
            Noun::Provider { verb } => Box::pin(provider_command::run(context, *verb)).await,
            Noun::Export(args) => Box::pin(commands::export::run(context, *args)).await,
            Noun::Promote(args) => Box::pin(commands::promote::run(context, *args)).await,
            Noun::Backup(args) => backup::back_up(context, args).await,
            Noun::Restore(args) => backup::restore(context, args).await,
            Noun::Config { verb: ConfigVerb::Show(wanted) } => {
                config_show::run(context, &wanted, parser, matches).await
            }
        }
    });
    // A DNS lookup runs on a thread that cannot be cancelled. Waiting for it would exceed the timeout.
    runtime.shutdown_background();
    done
}

/// Prints the store's alarms to stderr, in the format of errors. It appends the audit events to the
/// audit log.
///
/// The program runs no command if it cannot open that file, so no change is missing in the log.
fn logs(audit: Option<PathBuf>, form: OutputFormat) -> Result<(), CommandError> {
    let alarms =
        fmt::layer().with_writer(io::stderr).with_ansi(false).without_time().with_target(false);
    let errors = EnvFilter::new("stile_core=error,stile_store=error");
    let alarms = match form {
        OutputFormat::Table => alarms.with_filter(errors).boxed(),
        OutputFormat::Json => alarms.json().flatten_event(true).with_filter(errors).boxed(),
    };
    let events = audit.map(|path| audit_file(&path)).transpose()?.map(|file| {
        let lines = fmt::layer().json().flatten_event(true).with_writer(Arc::new(file));
        lines.with_filter(Targets::new().with_target("audit", LevelFilter::INFO))
    });
    tracing_subscriber::registry().with(alarms).with(events).init();
    Ok(())
}

fn audit_file(path: &Path) -> Result<File, CommandError> {
    let opened = OpenOptions::new().create(true).append(true).mode(0o600).open(path);
    opened.map_err(|error| {
        let what = format!("cannot open the audit log `{}`; nothing was changed", path.display());
        CommandError::failed_because(what, &error)
            .hint("set `STILE_AUDIT_LOG` to a writable file, or unset it")
    })
}
