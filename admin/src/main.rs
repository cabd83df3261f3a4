//! `stile-admin`: one line a noun; takes the clock, and turns what went wrong into one line and an exit code.

mod api;
mod cli;
mod commands;
mod direct_upload;
mod error;
mod expiry;
mod output;
mod pack;
mod target;
mod upload;

use std::process::ExitCode;

use clap::Parser as _;
use stile_core::clock::Clock;
use tracing_subscriber::EnvFilter;

use crate::cli::{Cli, Noun};
use crate::commands::{CommandResult, Context, grant, module, store, token};
use crate::error::CommandError;
use crate::output::Output;

fn main() -> ExitCode {
    let Cli { output, noun } = Cli::parse();
    alarms();
    let context = Context {
        output: Output::new(output),
        user: cli::local_user(),
        now: Clock::system().now(),
    };
    run(&context, noun).unwrap_or_else(|error| {
        output::print_error(&error);
        error.exit_code()
    })
}

fn run(context: &Context, noun: Noun) -> CommandResult {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime
        .map_err(|error| CommandError::failed_because("the system gives no event queue", &error))?;
    let done = runtime.block_on(async {
        match noun {
            Noun::Store { verb } => store::run(context, verb).await,
            Noun::Grant { verb } => grant::run(context, verb).await,
            Noun::Token { verb } => token::run(context, verb).await,
            Noun::Module { verb } => module::run(context, verb).await,
        }
    });
    // A name is looked up on a thread that cannot be broken off, and a limit that waits for its end is none.
    runtime.shutdown_background();
    done
}

/// Lets the store say on stderr what in it cannot be read.
fn alarms() {
    let ours = EnvFilter::new("stile_core=error,stile_store=error");
    tracing_subscriber::fmt()
        .with_env_filter(ours)
        .with_writer(std::io::stderr)
        .with_ansi(false)
        .without_time()
        .with_target(false)
        .init();
}
