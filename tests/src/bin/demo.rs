//! `make demo`: shows Stile from end to end on one machine, and exits with 0 only if every step held.

use std::io::Write as _;
use std::process::ExitCode;

use clap::{Parser, ValueEnum};
use stile_tests::demo::{Options, Sts, run};

/// Show Stile from end to end on this machine
#[derive(Debug, Parser)]
#[command(name = "demo")]
struct Cli {
    /// Exit after the last step, instead of running until Ctrl-C
    #[arg(long)]
    once: bool,

    /// The STS that the broker asks
    #[arg(long, value_enum, default_value = "local")]
    sts: Answers,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Answers {
    /// A local STS, for throw-away keys
    Local,
    /// AWS, for your own credentials
    Aws,
}

#[tokio::main]
async fn main() -> ExitCode {
    let cli = Cli::parse();
    let sts = match cli.sts {
        Answers::Local => Sts::Local,
        Answers::Aws => Sts::Aws,
    };
    // The support code panics with a message when a step does not hold.
    let done = tokio::spawn(run(Options { once: cli.once, sts })).await;
    let error = match done {
        Ok(Ok(())) => return ExitCode::SUCCESS,
        Ok(Err(error)) => error.to_string(),
        Err(_) => "the demo panicked".to_owned(),
    };
    let _ = writeln!(std::io::stderr(), "\nerror: {error}");
    ExitCode::FAILURE
}
