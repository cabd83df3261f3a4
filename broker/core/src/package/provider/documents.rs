//! The answer to a client that installs a provider: where its file is, and how to verify it.

use serde_json::{Map, Value, json};
use stile_protocol::names::ProviderType;

use super::{Platform, RegisteredKey, Release, zip_name};
use crate::package::Version;

/// The URLs of a download. Clients fetch each of them without a token.
#[derive(Clone)]
pub struct DownloadUrls {
    /// The URL of the zip archive.
    pub archive: String,
    /// The URL of `SHA256SUMS`.
    pub sums: String,
    /// The URL of the signature of `SHA256SUMS`.
    pub signature: String,
}

/// Returns the answer to `GET …/download/{os}/{arch}` (provider registry protocol, "Find a Provider
/// Package"). `None`, if the release has no file for the platform.
///
/// `keys` has the key that signed the release first. Clients try the keys in this order.
///
/// `trust_signature` is empty: Terraform verifies any other text against a key of `HashiCorp`.
/// `packages` has the hashes of every platform, because `OpenTofu` writes all of them into its lock
/// file, and rejects a list without the platform that it asked for.
pub fn download_document(
    provider_type: &ProviderType,
    version: &Version,
    platform: &Platform,
    release: &Release,
    keys: &[&RegisteredKey],
    urls: &DownloadUrls,
) -> Option<Value> {
    let file = release.files.get(platform)?;
    let protocols: Vec<_> = release.protocols.iter().map(ToString::to_string).collect();
    let keys: Vec<_> = keys
        .iter()
        .map(|key| {
            json!({
                "key_id": key.key_id.as_str(),
                "ascii_armor": key.armor,
                "trust_signature": "",
                "source": "",
                "source_url": null,
            })
        })
        .collect();
    let packages: Map<String, Value> = release
        .files
        .iter()
        .map(|(platform, file)| {
            let hashes = [format!("zh:{}", file.sha256), file.h1.clone()];
            (platform.to_string(), json!({ "hashes": hashes, "package_size": file.bytes }))
        })
        .collect();
    Some(json!({
        "protocols": protocols,
        "os": platform.os(),
        "arch": platform.arch(),
        "filename": zip_name(provider_type, version, platform),
        "download_url": urls.archive,
        "shasums_url": urls.sums,
        "shasums_signature_url": urls.signature,
        "shasum": file.sha256,
        "signing_keys": { "gpg_public_keys": keys },
        "packages": packages,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::package::provider::{KeyId, NamespaceKeys, ReleaseFile, SignedSums};

    fn release() -> Release {
        let file = |sha256: &str, bytes| ReleaseFile {
            sha256: sha256.repeat(32),
            h1: format!("h1:{sha256}="),
            bytes,
            object_version: Some("v".to_owned()),
        };
        let files = [("linux_amd64", file("ab", 7)), ("darwin_arm64", file("cd", 8))];
        Release::new(
            vec!["5.0".parse().unwrap(), "6.0".parse().unwrap()],
            files.map(|(platform, file)| (platform.parse().unwrap(), file)).into(),
            SignedSums {
                text: String::new(),
                signature: Vec::new(),
                key_id: KeyId::parse("F9BA19AD6BE4698A").unwrap(),
            },
            None,
        )
    }

    fn document(platform: &str) -> Option<Value> {
        let key = json!({ "keys": [{
            "key_id": "F9BA19AD6BE4698A", "fingerprint": "", "algorithm": "RSA 4096",
            "user_id": "a", "armor": "-----BEGIN", "added_by": "alice", "added_at": 1,
            "state": "active",
        }] });
        let keys = NamespaceKeys::read(&key.to_string()).unwrap();
        let keys: Vec<_> = keys.keys.iter().collect();
        let urls = DownloadUrls {
            archive: "https://x/a".to_owned(),
            sums: "https://x/b".to_owned(),
            signature: "https://x/c".to_owned(),
        };
        let (dns, version) =
            (ProviderType::parse("dns").unwrap(), Version::parse("1.0.0").unwrap());
        download_document(&dns, &version, &platform.parse().unwrap(), &release(), &keys, &urls)
    }

    #[test]
    fn a_platform_without_a_file_has_no_document() {
        assert_eq!(document("linux_arm64"), None);
    }

    #[test]
    fn the_document_names_the_file_its_keys_and_the_hashes_of_every_platform() {
        let expected = json!({
            "protocols": ["5.0", "6.0"],
            "os": "linux",
            "arch": "amd64",
            "filename": "terraform-provider-dns_1.0.0_linux_amd64.zip",
            "download_url": "https://x/a",
            "shasums_url": "https://x/b",
            "shasums_signature_url": "https://x/c",
            "shasum": "ab".repeat(32),
            "signing_keys": { "gpg_public_keys": [{
                "key_id": "F9BA19AD6BE4698A",
                "ascii_armor": "-----BEGIN",
                "trust_signature": "",
                "source": "",
                "source_url": null,
            }] },
            "packages": {
                "linux_amd64": {
                    "hashes": [format!("zh:{}", "ab".repeat(32)), "h1:ab="], "package_size": 7,
                },
                "darwin_arm64": {
                    "hashes": [format!("zh:{}", "cd".repeat(32)), "h1:cd="], "package_size": 8,
                },
            },
        });
        assert_eq!(document("linux_amd64"), Some(expected));
    }
}
