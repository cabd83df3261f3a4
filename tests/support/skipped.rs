//! Finds tools on `PATH`, and lists the tests that were skipped because the machine lacks a tool.

use std::ffi::OsString;
use std::fs::OpenOptions;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use crate::process::programs::target;

/// Returns the absolute path of the program `name` on `PATH`, if the machine has it.
pub fn tool(name: &str) -> Option<PathBuf> {
    tool_in(std::env::split_paths(&search_path()), name)
}

/// Returns `PATH`, the only variable that programs under test inherit.
pub fn search_path() -> OsString {
    variable("PATH").unwrap_or_default()
}

/// Returns `STILE_TEST_SEED`, which repeats a random test that failed.
pub(crate) fn wanted_seed() -> Option<String> {
    variable("STILE_TEST_SEED")?.into_string().ok()
}

/// Returns `STILE_TEST_EMULATOR`, the emulator of AWS that the tests of the store use.
pub(crate) fn wanted_emulator() -> Option<String> {
    variable("STILE_TEST_EMULATOR")?.into_string().ok()
}

fn variable(name: &str) -> Option<OsString> {
    #[expect(
        clippy::disallowed_methods,
        reason = "only this function of the tests reads the environment"
    )]
    std::env::var_os(name)
}

/// Records that a test did not show `what`, because the machine lacks `tool`.
///
/// It writes to stderr and to `target/skipped.txt`, which `tests/run` prints at its end.
pub fn skipped(tool: &str, what: &str) {
    append(&target().join("skipped.txt"), tool, what);
    let _ = writeln!(std::io::stderr(), "skipped, because this machine lacks {tool}: {what}");
}

fn tool_in(folders: impl Iterator<Item = PathBuf>, name: &str) -> Option<PathBuf> {
    let runs = |file: &PathBuf| {
        file.metadata()
            .is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
    };
    folders.filter(|folder| folder.is_absolute()).map(|folder| folder.join(name)).find(runs)
}

/// Appends one line in one write, so that concurrent tests do not mix their lines.
fn append(list: &Path, tool: &str, what: &str) {
    let line = format!("{tool}\t{what}\n");
    let mut file = OpenOptions::new().append(true).create(true).open(list).unwrap();
    file.write_all(line.as_bytes()).unwrap();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tool_is_an_executable_file() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("plain");
        std::fs::write(&file, "").unwrap();
        std::fs::create_dir(folder.path().join("folder")).unwrap();
        let folders = || [PathBuf::from("."), folder.path().to_owned()].into_iter();
        for name in ["plain", "folder", "absent"] {
            assert_eq!(tool_in(folders(), name), None, "{name}");
        }
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o755)).unwrap();
        assert_eq!(tool_in(folders(), "plain"), Some(file));
        assert_eq!(tool("no-such-tool-anywhere"), None);
        assert!(tool("sh").is_some());
    }

    #[test]
    fn each_skip_is_one_line() {
        let folder = tempfile::tempdir().unwrap();
        let list = folder.path().join("skipped.txt");
        append(&list, "terraform", "init with a granted role");
        append(&list, "strace", "no socket is opened");
        assert_eq!(
            std::fs::read_to_string(list).unwrap(),
            "terraform\tinit with a granted role\nstrace\tno socket is opened\n"
        );
    }
}
