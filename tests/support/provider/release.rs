//! A version of a provider as a publisher has it: zip archives, the list of digests, and its signature.

use std::collections::BTreeMap;
use std::io::Write as _;

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::TestSigner;

/// A version of a provider that a test publishes.
pub struct TestRelease {
    /// The address, `namespace/type`.
    pub address: String,
    /// The version.
    pub version: String,
    /// The zip archives by platform.
    pub files: BTreeMap<String, Vec<u8>>,
    /// The text of the list of digests.
    pub sums: String,
    /// The signature of the list, as base64.
    pub signature: String,
}

impl TestRelease {
    /// Creates a release with a file for each platform, signed at that time.
    pub fn new(
        address: &str,
        version: &str,
        platforms: &[&str],
        signer: &TestSigner,
        at: i64,
    ) -> Self {
        let provider_type = address.split_once('/').unwrap().1;
        let zip = |platform: &&str| {
            let says = format!("{address} {version} {platform}");
            ((*platform).to_owned(), provider_zip(provider_type, &says))
        };
        let mut release = Self {
            address: address.to_owned(),
            version: version.to_owned(),
            files: platforms.iter().map(zip).collect(),
            sums: String::new(),
            signature: String::new(),
        };
        release.sign(signer, at);
        release
    }

    /// Writes the list of digests of all files, and signs it.
    pub fn sign(&mut self, signer: &TestSigner, at: i64) {
        let line = |(platform, zip): (&String, &Vec<u8>)| {
            format!("{}  {}\n", hex::encode(Sha256::digest(zip)), self.name(platform))
        };
        let mut lines: Vec<String> = self.files.iter().map(line).collect();
        lines.sort_by_key(|line| line[66..].to_owned());
        self.sums = lines.concat();
        self.signature = signer.sign(&self.sums, at);
    }

    /// Returns the name of the file of a platform.
    pub fn name(&self, platform: &str) -> String {
        let provider_type = self.address.split_once('/').unwrap().1;
        format!("terraform-provider-{provider_type}_{}_{platform}.zip", self.version)
    }

    /// Returns the file of that name.
    pub fn file(&self, name: &str) -> &[u8] {
        let found = self.files.iter().find(|(platform, _)| self.name(platform) == name);
        found.unwrap().1
    }

    /// Returns the path of a route of this version.
    pub fn path(&self, route: &str) -> String {
        let path = format!("/v1/providers/{}/{}", self.address, self.version);
        if route.is_empty() { path } else { format!("{path}/{route}") }
    }

    /// Returns what the publisher announces.
    pub fn announcement(&self) -> Value {
        let files = self
            .files
            .iter()
            .map(|(platform, zip)| json!({ "name": self.name(platform), "bytes": zip.len() }));
        json!({
            "sha256sums": self.sums,
            "signature": self.signature,
            "protocols": ["5.0"],
            "files": files.collect::<Vec<_>>(),
        })
    }
}

/// Creates the zip of a provider, whose executable has that text.
pub fn provider_zip(provider_type: &str, says: &str) -> Vec<u8> {
    let options = zip::write::SimpleFileOptions::default().unix_permissions(0o755);
    let mut zip = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    zip.start_file(format!("terraform-provider-{provider_type}_v1.0.0"), options).unwrap();
    zip.write_all(says.as_bytes()).unwrap();
    zip.finish().unwrap().into_inner()
}
