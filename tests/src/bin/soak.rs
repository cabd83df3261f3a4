//! `make soak`: runs the released broker under good and bad requests, and exits with 0 only if all conditions held.

use std::io::Write as _;
use std::process::ExitCode;

use clap::Parser;
use stile_tests::process::programs::target;
use stile_tests::soak::run;

/// Run the broker under good and bad requests at once, and report
#[derive(Debug, Parser)]
#[command(name = "soak")]
struct Cli {
    /// Run for about this many minutes; from 10 on, garbage is a million tokens and 100,000 exchanges
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=50))]
    minutes: u64,
}

#[tokio::main]
async fn main() -> ExitCode {
    let minutes = Cli::parse().minutes;
    // The support code panics with a message when a step does not hold.
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
