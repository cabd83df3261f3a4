//! Installs Node packages in the target folder, once from their lock file: those of the examples,
//! Renovate, and a signer of JWTs.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::process::programs::target;
use crate::process::venv::run;
use crate::skipped::tool;

/// The folder with a folder for each `package.json` and its lock file.
const FIXTURES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures");

/// Returns the Node program, and a folder in which a script finds the packages of the examples.
///
/// It returns `None` without `node` or `npm`, and if npm cannot install the packages.
pub fn packages() -> Option<(PathBuf, PathBuf)> {
    installed("node-packages", "node")
}

/// Returns the Node program, and the folder of Renovate. It takes 330 MB, and minutes to install.
///
/// It returns `None` without `node` or `npm`, and if npm cannot install it.
pub fn renovate() -> Option<(PathBuf, PathBuf)> {
    let (node, folder) = installed("renovate", "renovate")?;
    Some((node, folder.join("node_modules/renovate")))
}

/// Returns the Node program, and a folder in which a script finds `jose`, which signs JWTs.
///
/// It returns `None` without `node` or `npm`, and if npm cannot install it.
pub(crate) fn jose() -> Option<(PathBuf, PathBuf)> {
    installed("jose-packages", "jwt")
}

/// Returns the Node program, and the folder of that name with the packages of a fixture.
fn installed(name: &str, fixture: &str) -> Option<(PathBuf, PathBuf)> {
    let (node, npm) = (tool("node")?, tool("npm")?);
    let (folder, fixture) = (target().join(name), Path::new(FIXTURES).join(fixture));
    fs::create_dir_all(&folder).unwrap();
    let lock = File::create(target().join(format!("{name}.lock"))).unwrap();
    lock.lock().unwrap();
    let read = |folder: &Path| fs::read(folder.join("package-lock.json")).ok();
    let wanted = read(&fixture);
    let marker = folder.join("installed");
    if read(&folder) == wanted && marker.exists() {
        return Some((node, folder));
    }
    let _ = fs::remove_file(&marker);
    for file in ["package.json", "package-lock.json"] {
        fs::copy(fixture.join(file), folder.join(file)).unwrap();
    }
    let mut install = Command::new(npm);
    install.current_dir(&folder);
    run(install.args(["ci", "--no-audit", "--no-fund", "--ignore-scripts", "--loglevel=error"]))?;
    fs::write(marker, "").unwrap();
    Some((node, folder))
}
