//! The scanners that adopters run, on the Terraform modules and examples. They find nothing, and
//! every skip in the source hides a finding and has a reason.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;
use stile_tests::process::programs::workspace;
use stile_tests::skipped::{search_path, skipped};
use stile_tests::terraform::scanners::{TRIVY_NEEDS, checkov, trivy};
use tempfile::TempDir;

use super::plan::copy;

/// The start of a line that skips a check of checkov. The check and the reason follow.
const CHECKOV_SKIP: &str = "#checkov:skip=";

/// The start of a line that skips a check of Trivy. The check follows.
const TRIVY_SKIP: &str = "#trivy:ignore:";

/// The file and the check of each finding or skip, with a text that says more about it.
type Findings = BTreeMap<(String, String), String>;

/// Copies the modules, their examples, and calls of the modules with every front.
fn scanned() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    copy(&workspace().join("infra"), &folder.path().join("infra"));
    copy(&workspace().join("tests/fixtures/scanned"), &folder.path().join("scanned"));
    folder
}

/// Returns every configuration file below a folder.
fn configurations(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(configurations(&path));
        } else if path.extension().is_some_and(|end| end == "tf") {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// Returns the skips of one scanner in the source. The text of each is its line and the line above.
fn skips(start: &str) -> Findings {
    let mut found = Findings::new();
    for file in configurations(&workspace().join("infra")) {
        let text = std::fs::read_to_string(&file).unwrap();
        let name = file.strip_prefix(workspace()).unwrap().to_str().unwrap().to_owned();
        let lines: Vec<&str> = text.lines().map(str::trim).collect();
        for (number, line) in lines.iter().enumerate() {
            if let Some(rest) = line.strip_prefix(start) {
                let check = rest.split([':', ' ']).next().unwrap().to_owned();
                let above = if number == 0 { "" } else { lines[number - 1] };
                found.insert((name.clone(), check), format!("{above}\n{line}"));
            }
        }
    }
    found
}

/// Runs a scanner in a folder, and returns its report.
///
/// It passes only `PATH` on, so the scanner finds no credentials.
fn report(command: &mut Command, folder: &Path) -> Value {
    let home = tempfile::tempdir().unwrap();
    let output = command
        .current_dir(folder)
        .env_clear()
        .env("PATH", search_path())
        .env("HOME", home.path())
        // Without it, checkov asks the package index for a newer version.
        .env("CKV_SKIP_PACKAGE_UPDATE_CHECK", "true")
        .stdin(Stdio::null())
        .output()
        .unwrap();
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| {
        panic!("{command:?}: {error}\n{}", String::from_utf8_lossy(&output.stderr))
    })
}

/// Returns the elements of an array in a report. A report without findings has no array.
fn each(array: &Value) -> impl Iterator<Item = &Value> {
    array.as_array().into_iter().flatten()
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

/// Returns the findings in one list of a report of checkov.
fn of_checkov(report: &Value, list: &str) -> Findings {
    let found = each(&report["results"][list]).map(|one| {
        let file = text(&one["file_path"]).trim_start_matches('/').to_owned();
        let more = format!("line {}: {}", one["file_line_range"][0], text(&one["check_name"]));
        ((file, text(&one["check_id"])), more)
    });
    found.collect()
}

/// Returns what Trivy finds in a folder.
fn of_trivy(program: &Path, folder: &Path) -> Findings {
    let mut command = Command::new(program);
    command.args(["config", "--quiet", "--format", "json", "--cache-dir", "trivy-cache"]);
    // The checks are those in the program. Nothing is downloaded or sent.
    command.args(["--skip-check-update", "--skip-version-check", "--disable-telemetry", "."]);
    let report = report(&mut command, folder);
    let mut found = Findings::new();
    for file in each(&report["Results"]) {
        for one in each(&file["Misconfigurations"]).filter(|one| one["Status"] == "FAIL") {
            let line = &one["CauseMetadata"]["StartLine"];
            let more = format!("line {line}: {}, {}", text(&one["Title"]), text(&one["Message"]));
            // A skip names the check as older versions do, which newer ones also accept.
            found.insert((text(&file["Target"]), format!("AVD-{}", text(&one["ID"]))), more);
        }
    }
    found
}

fn names(findings: &Findings) -> Vec<&(String, String)> {
    findings.keys().collect()
}

#[test]
fn checkov_finds_nothing_and_each_skip_for_it_hides_a_finding() {
    let Some((python, script)) = checkov() else {
        return skipped("python3", "checkov finds nothing in the Terraform modules");
    };
    let folder = scanned();
    let mut command = Command::new(python);
    command.arg(script).args(["--directory", ".", "--framework", "terraform"]);
    command.args(["--skip-download", "--compact", "--output", "json"]);
    let report = report(&mut command, folder.path());
    let found = of_checkov(&report, "failed_checks");
    assert!(found.is_empty(), "checkov: {found:#?}");
    assert_eq!(report["summary"]["parsing_errors"], 0, "{}", report["results"]["parsing_errors"]);
    let hidden = of_checkov(&report, "skipped_checks");
    assert_eq!(names(&hidden), names(&skips(CHECKOV_SKIP)));
}

#[test]
fn trivy_finds_nothing_and_each_skip_for_it_hides_a_finding() {
    let Some(program) = trivy() else {
        return skipped(TRIVY_NEEDS, "Trivy finds nothing in the Terraform modules");
    };
    let folder = scanned();
    let found = of_trivy(&program, folder.path());
    assert!(found.is_empty(), "Trivy: {found:#?}");
    for file in configurations(folder.path()) {
        let text = std::fs::read_to_string(&file).unwrap();
        std::fs::write(file, text.replace(TRIVY_SKIP, "#")).unwrap();
    }
    let hidden = of_trivy(&program, folder.path());
    assert_eq!(names(&hidden), names(&skips(TRIVY_SKIP)));
}

#[test]
fn each_skip_of_a_scanner_has_its_reason() {
    for ((file, check), lines) in skips(CHECKOV_SKIP) {
        let reason = lines.rsplit(':').next().unwrap();
        assert!(reason.split(' ').count() >= 5, "{file}: {check} is skipped without a reason");
    }
    for ((file, check), lines) in skips(TRIVY_SKIP) {
        // The line above the skip, because Trivy reads options after the name of the check.
        let reason = lines.split('\n').next().unwrap();
        assert!(
            reason.starts_with("# ") && reason.split(' ').count() >= 6,
            "{file}: {check} is skipped without a reason in the line above"
        );
    }
}
