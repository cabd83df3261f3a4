//! Installs the Node packages of the examples in the target folder, once from their lock file.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::process::programs::target;
use crate::process::venv::run;
use crate::skipped::tool;

/// The folder of `package.json` and its lock file.
const FIXTURES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/node");

/// Returns the Node program, and a folder in which a script finds the packages.
///
/// It returns `None` without `node` or `npm`, and if npm cannot install the packages.
pub fn packages() -> Option<(PathBuf, PathBuf)> {
    let (node, npm) = (tool("node")?, tool("npm")?);
    let folder = target().join("node-packages");
    fs::create_dir_all(&folder).unwrap();
    let lock = File::create(target().join("node-packages.lock")).unwrap();
    lock.lock().unwrap();
    let read = |folder: &Path| fs::read(folder.join("package-lock.json")).ok();
    let wanted = read(Path::new(FIXTURES));
    let marker = folder.join("installed");
    if read(&folder) == wanted && marker.exists() {
        return Some((node, folder));
    }
    let _ = fs::remove_file(&marker);
    for file in ["package.json", "package-lock.json"] {
        fs::copy(Path::new(FIXTURES).join(file), folder.join(file)).unwrap();
    }
    let mut install = Command::new(npm);
    install.current_dir(&folder);
    run(install.args(["ci", "--no-audit", "--no-fund", "--ignore-scripts", "--loglevel=error"]))?;
    fs::write(marker, "").unwrap();
    Some((node, folder))
}
