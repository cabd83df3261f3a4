//! `make bench`: measures the search, and exits with 0 only if it reaches its goals.

use std::io::Write as _;
use std::process::ExitCode;

use stile_tests::bench::run;
use stile_tests::process::programs::target;

#[tokio::main]
async fn main() -> ExitCode {
    // The support code panics with a message when a step does not hold.
    let Ok(report) = tokio::spawn(run()).await else { return ExitCode::FAILURE };
    let _ = write!(std::io::stdout(), "{report}");
    let folder = target().join("bench");
    let written = std::fs::create_dir_all(&folder).and_then(|()| {
        std::fs::write(folder.join("report.json"), format!("{:#}\n", report.json()))
    });
    if let Err(error) = written {
        let _ = writeln!(std::io::stderr(), "error: the report cannot be written: {error}");
        return ExitCode::FAILURE;
    }
    if report.met() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
