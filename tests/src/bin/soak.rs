//! `make soak`: the released program under good and bad requests for some minutes; exits 0 only if all held that must.

use std::io::Write as _;
use std::process::ExitCode;

use clap::Parser;
use stile_tests::process::programs::target;
use stile_tests::soak::run;

/// Put the broker under good and bad requests at once, and look at what becomes of it
#[derive(Debug, Parser)]
#[command(name = "soak")]
struct Cli {
    /// Go on for about this many minutes; from 10 on, garbage is a million tokens and a hundred thousand exchanges
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=50))]
    minutes: u64,
}

#[tokio::main]
async fn main() -> ExitCode {
    let minutes = Cli::parse().minutes;
    // What supports a test ends it by a panic, which has said why.
    let Ok(report) = tokio::spawn(run(minutes)).await else { return ExitCode::FAILURE };
    let _ = write!(std::io::stdout(), "{report}");
    let folder = target().join("soak");
    let written = std::fs::create_dir_all(&folder).and_then(|()| {
        std::fs::write(folder.join("report.json"), format!("{:#}\n", report.json()))
    });
    if let Err(error) = written {
        let _ = writeln!(std::io::stderr(), "error: the report cannot be written: {error}");
        return ExitCode::FAILURE;
    }
    if report.held() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
