//! `make demo`: shows Stile from end to end on this machine; exits 0 only if every step held.

use std::io::Write as _;
use std::process::ExitCode;

use clap::{Parser, ValueEnum};
use stile_tests::demo::{Options, Sts, run};

/// Show Stile from end to end on this machine
#[derive(Debug, Parser)]
#[command(name = "demo")]
struct Cli {
    /// End after the last step, instead of staying up to be tried by hand
    #[arg(long)]
    once: bool,

    /// Say who answers for STS
    #[arg(long, value_enum, default_value = "local")]
    sts: Answers,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Answers {
    /// A server on this machine, for throw-away keys
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
    // What supports a test ends it by a panic, which has said why; here that is a step that did not hold.
    let done = tokio::spawn(run(Options { once: cli.once, sts })).await;
    let error = match done {
        Ok(Ok(())) => return ExitCode::SUCCESS,
        Ok(Err(error)) => error.to_string(),
        Err(_) => "the demo broke off".to_owned(),
    };
    let _ = writeln!(std::io::stderr(), "\nerror: {error}");
    ExitCode::FAILURE
}
