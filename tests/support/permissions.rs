//! Runs programs that file permissions bind, also if the user of the tests is root.

use rustix::process::geteuid;

use crate::skipped::{skipped, tool};

/// The arguments with which `setpriv` takes from root the capability to open every file.
const GIVE_UP: [&str; 2] = ["--bounding-set=-dac_override,-dac_read_search", "--"];

/// Returns the start of a command that gives up the capability of root to open every file. For any
/// other user, it is empty.
///
/// If root has no `setpriv`, it records that a test did not show `what`, and returns `None`.
pub fn bound_by_permissions(what: &str) -> Option<Vec<String>> {
    if !geteuid().is_root() {
        return Some(Vec::new());
    }
    let Some(setpriv) = tool("setpriv") else {
        skipped("setpriv", &format!("{what}, as root"));
        return None;
    };
    let words = [&[setpriv.to_str().unwrap()][..], &GIVE_UP].concat();
    Some(words.into_iter().map(str::to_owned).collect())
}

/// Returns whether this process is root. If not, it records that a test did not show `what`.
pub fn is_root(what: &str) -> bool {
    if !geteuid().is_root() {
        skipped("root", what);
    }
    geteuid().is_root()
}
