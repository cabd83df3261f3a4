//! A real plugin: the provider hashicorp/aws, which tests publish under another name.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufReader, BufWriter};
use std::path::{Path, PathBuf};

use zip::write::SimpleFileOptions;

use super::dist::ProviderDist;
use crate::process::programs::target;
use crate::terraform::provider::cli_configuration;

/// The platform of the plugin.
pub const PLATFORM: &str = "linux_amd64";

/// Returns a version of a provider whose file for [`PLATFORM`] is a real plugin, and another
/// platform's small file.
///
/// Returns `None` if Terraform finds no hashicorp/aws.
pub fn real_dist(terraform: &Path, kind: &str, version: &str) -> Option<ProviderDist> {
    let executable = executable(terraform)?;
    let mut dist = ProviderDist::new(kind, version, &["darwin_arm64"]);
    let zip = cached_zip(&executable, kind, version);
    let real = BTreeMap::from([(PLATFORM.to_owned(), std::fs::read(zip).unwrap())]);
    dist.zips.extend(real);
    Some(dist)
}

/// Returns the executable of hashicorp/aws in the mirror that Terraform uses.
fn executable(terraform: &Path) -> Option<PathBuf> {
    let rc = cli_configuration(terraform)?;
    let mirror = rc.split_once("path").and_then(|(_, rest)| rest.split('"').nth(1))?;
    let versions = Path::new(mirror).join("registry.terraform.io/hashicorp/aws");
    let newest = std::fs::read_dir(versions).ok()?.flatten().map(|entry| entry.path()).max()?;
    let files = std::fs::read_dir(newest.join(PLATFORM)).ok()?.flatten();
    files.map(|entry| entry.path()).find(|path| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        name.starts_with("terraform-provider-aws")
    })
}

/// Packs the executable under another name. The zip is in the target folder for later runs.
fn cached_zip(executable: &Path, kind: &str, version: &str) -> PathBuf {
    let zip = target().join(format!("terraform-provider-{kind}_{version}_{PLATFORM}.zip"));
    let lock = File::create(target().join("terraform-provider-zip.lock")).unwrap();
    lock.lock().unwrap();
    if zip.is_file() {
        return zip;
    }
    let aside = tempfile::NamedTempFile::new_in(target()).unwrap();
    let mut writer = zip::ZipWriter::new(BufWriter::new(aside.reopen().unwrap()));
    let options = SimpleFileOptions::default()
        .compression_level(Some(1))
        .large_file(true)
        .last_modified_time(zip::DateTime::default())
        .unix_permissions(0o755);
    writer.start_file(format!("terraform-provider-{kind}_v{version}_x5"), options).unwrap();
    let mut plugin = BufReader::new(File::open(executable).unwrap());
    std::io::copy(&mut plugin, &mut writer).unwrap();
    writer.finish().unwrap().into_inner().unwrap();
    aside.persist(&zip).unwrap();
    zip
}
