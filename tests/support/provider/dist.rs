//! Builds the files of one version of a provider, as GoReleaser leaves them in its folder `dist`.

use std::collections::BTreeMap;
use std::io::{Cursor, Write as _};
use std::path::Path;

use serde_json::json;
use sha2::{Digest, Sha256};
use zip::write::SimpleFileOptions;

use super::gnupg::PublisherKey;

/// Three platforms: that of the tests, and two whose files the tests cannot run.
pub const PLATFORMS: [&str; 3] = ["darwin_arm64", "linux_amd64", "windows_amd64"];

/// The files of one version of a provider, before a key signs the list of their digests.
#[derive(Debug, Clone)]
pub struct ProviderDist {
    /// The type of the provider, for example `dns`.
    pub kind: String,
    /// The version, without `v`.
    pub version: String,
    /// The zip archives by platform.
    pub zips: BTreeMap<String, Vec<u8>>,
    /// The versions of the plugin protocol.
    pub protocols: Vec<String>,
    /// Whether the release has a manifest file.
    pub has_manifest: bool,
}

/// The list of digests of one version, and its signature.
#[derive(Debug, Clone)]
pub struct SignedDist {
    /// The files.
    pub dist: ProviderDist,
    /// The text of `SHA256SUMS`.
    pub sums: String,
    /// The detached signature, in binary.
    pub signature: Vec<u8>,
}

impl ProviderDist {
    /// Builds small zip archives for these platforms. The same arguments give the same bytes.
    pub fn new(kind: &str, version: &str, platforms: &[&str]) -> Self {
        let zip = |platform: &&str| ((*platform).to_owned(), small_zip(kind, version, platform));
        Self {
            kind: kind.to_owned(),
            version: version.to_owned(),
            zips: platforms.iter().map(zip).collect(),
            protocols: vec!["5.0".to_owned()],
            has_manifest: true,
        }
    }

    /// Returns the name of a platform's zip archive.
    pub fn zip_name(&self, platform: &str) -> String {
        format!("{}_{platform}.zip", self.stem())
    }

    /// Returns the name of the list of digests.
    pub fn sums_name(&self) -> String {
        format!("{}_SHA256SUMS", self.stem())
    }

    /// Returns the name of the signature.
    pub fn signature_name(&self) -> String {
        format!("{}.sig", self.sums_name())
    }

    /// Returns the name of the manifest.
    pub fn manifest_name(&self) -> String {
        format!("{}_manifest.json", self.stem())
    }

    /// Returns the text of the manifest.
    pub fn manifest(&self) -> String {
        let metadata = json!({ "protocol_versions": self.protocols });
        format!("{}\n", json!({ "version": 1, "metadata": metadata }))
    }

    /// Returns the SHA-256 of a platform's zip archive in lower-case hex.
    pub fn sha256(&self, platform: &str) -> String {
        hex::encode(Sha256::digest(&self.zips[platform]))
    }

    /// Returns the text of `SHA256SUMS`, as `sha256sum` prints it.
    pub fn sums(&self) -> String {
        let mut lines: Vec<String> = self
            .zips
            .keys()
            .map(|platform| format!("{}  {}\n", self.sha256(platform), self.zip_name(platform)))
            .collect();
        if self.has_manifest {
            let sha256 = hex::encode(Sha256::digest(self.manifest()));
            lines.push(format!("{sha256}  {}\n", self.manifest_name()));
        }
        lines.concat()
    }

    /// Signs the list of digests.
    pub fn signed(&self, key: &PublisherKey<'_>) -> SignedDist {
        let sums = self.sums();
        SignedDist { dist: self.clone(), signature: key.sign(sums.as_bytes()), sums }
    }

    fn stem(&self) -> String {
        format!("terraform-provider-{}_{}", self.kind, self.version)
    }
}

impl SignedDist {
    /// Writes all files to a folder.
    pub fn write(&self, folder: &Path) {
        let dist = &self.dist;
        let write = |name: &str, bytes: &[u8]| std::fs::write(folder.join(name), bytes).unwrap();
        for (platform, zip) in &dist.zips {
            write(&dist.zip_name(platform), zip);
        }
        write(&dist.sums_name(), self.sums.as_bytes());
        write(&dist.signature_name(), &self.signature);
        if dist.has_manifest {
            write(&dist.manifest_name(), dist.manifest().as_bytes());
        }
    }
}

/// Returns a zip archive with a small executable, which Terraform installs and never runs.
fn small_zip(kind: &str, version: &str, platform: &str) -> Vec<u8> {
    let mut zip = zip::ZipWriter::new(Cursor::new(Vec::new()));
    // A fixed time, so that the same arguments give the same bytes.
    let options = SimpleFileOptions::default().last_modified_time(zip::DateTime::default());
    let suffix = if platform.starts_with("windows_") { ".exe" } else { "" };
    let name = format!("terraform-provider-{kind}_v{version}{suffix}");
    zip.start_file("LICENSE", options.unix_permissions(0o644)).unwrap();
    zip.write_all(b"No rights reserved.\n").unwrap();
    zip.start_file(name, options.unix_permissions(0o755)).unwrap();
    write!(zip, "#!/bin/sh\necho '{kind} {version} {platform}'\n").unwrap();
    zip.finish().unwrap().into_inner()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_provider_has_the_same_bytes_twice_and_a_line_for_each_file() {
        let build = || ProviderDist::new("dns", "1.0.0", &PLATFORMS);
        assert_eq!(build().zips, build().zips);
        let (dist, other) = (build(), ProviderDist::new("dns", "1.0.1", &PLATFORMS));
        assert_ne!(dist.sha256("linux_amd64"), other.sha256("linux_amd64"));
        assert_ne!(dist.sha256("linux_amd64"), dist.sha256("darwin_arm64"));
        let sums = dist.sums();
        assert_eq!(sums.lines().count(), 4);
        let line = format!(
            "{}  terraform-provider-dns_1.0.0_linux_amd64.zip\n",
            dist.sha256("linux_amd64")
        );
        assert!(sums.contains(&line), "{sums}");
    }
}
