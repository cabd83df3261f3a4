//! The flags of `provider`.

use std::path::PathBuf;

use clap::builder::NonEmptyStringValueParser;
use clap::{Args, Subcommand};
use stile_core::package::provider::{KeyId, ProtocolVersion};
use terraform_credentials_stile::call::TIMEOUT_SECONDS;

use super::Statement;
use crate::target::ApiTarget;

#[derive(Debug, Subcommand)]
pub(crate) enum ProviderVerb {
    /// Publish a version of a provider, or add platforms to it
    ///
    /// ADDRESS is `namespace/type`, and VERSION is such as `1.2.0` or `1.2.0-rc.1`. FOLDER has the
    /// archives of the version, of one or more platforms.
    ///
    /// FOLDER can be the `dist` folder of GoReleaser, with `terraform-provider-TYPE_VERSION_OS_ARCH.zip`.
    /// The program sends these archives as they are. With a signed `SHA256SUMS` in FOLDER, it needs no
    /// key. It finds the manifest in FOLDER or in its parent, the repository.
    ///
    /// FOLDER can have tarballs instead: `terraform-provider-TYPE-vVERSION-OS-ARCH-bin.tar.gz`. The
    /// program repacks them to zip archives. The same tarball always gives the same bytes.
    ///
    /// The program writes one `SHA256SUMS` for all platforms, and signs it with your key. The key must
    /// be registered for the namespace: see `provider keys add`.
    ///
    /// If the version has other platforms already, it joins them. It never changes the bytes of a
    /// published platform. If another key signed them, FOLDER must have all of them. You can repeat the command: it sends only the archives that the registry
    /// does not have, also after it was stopped. Clients see all of the new files or none.
    ///
    /// Example: `stile-admin provider publish acme/dns 1.2.0 dist --key release-key.asc
    /// --registry-host registry.example.com`
    Publish(ProviderPublish),
    /// List providers, a namespace's providers, or a provider's versions
    ///
    /// Example: `stile-admin provider list acme/dns --registry-host registry.example.com`
    List(ProviderList),
    /// Show one version: its platforms, digests, key and state
    ///
    /// A value that is marked as claimed comes from the environment of the publisher, and nobody
    /// verified it.
    ///
    /// Example: `stile-admin provider show acme/dns 1.2.0 --registry-host registry.example.com`
    Show(ProviderShow),
    /// Warn everyone who uses a version, with a reason
    ///
    /// Clients go on installing the version, and print the reason at each `init`.
    ///
    /// Example: `stile-admin provider deprecate acme/dns 1.2.0 --reason 'it leaks sockets'
    /// --replacement 1.3.0`
    Deprecate(ProviderDeprecate),
    /// End the deprecation of a version
    ///
    /// Example: `stile-admin provider undeprecate acme/dns 1.2.0`
    Undeprecate(ProviderOne),
    /// Warn everyone against a version that nobody should use
    ///
    /// The version stays in the list, and clients can install it. Otherwise, every `init` with the
    /// version in its lock file would fail.
    ///
    /// Example: `stile-admin provider yank acme/dns 1.2.0 --reason 'it deletes the wrong zone'
    /// --replacement 1.3.0`
    Yank(ProviderDeprecate),
    /// End the warning of a yanked version
    ///
    /// Example: `stile-admin provider restore acme/dns 1.2.0`
    Restore(ProviderOne),
    /// Add, list, retire and export the keys that sign a namespace's providers
    Keys {
        #[command(subcommand)]
        verb: ProviderKeysVerb,
    },
}

#[derive(Debug, Args)]
pub(crate) struct ProviderPublish {
    /// The provider's address `namespace/type`
    #[arg(value_name = "ADDRESS")]
    pub(crate) address: String,

    /// The version, such as `1.2.0`
    #[arg(value_name = "VERSION")]
    pub(crate) version: String,

    /// The folder with the archives of the version
    #[arg(value_name = "FOLDER")]
    pub(crate) folder: PathBuf,

    #[command(flatten)]
    pub(crate) key: KeyFlags,

    /// Name a version of the plugin protocol that the provider speaks. Repeat the flag for more
    ///
    /// Default: the versions in the manifest, or else those of the published version. Without both,
    /// the flag is required. Example: `--protocol 6.0`
    #[arg(long = "protocol", value_name = "MAJOR.MINOR")]
    pub(crate) protocols: Vec<ProtocolVersion>,

    /// Read the manifest of the version from this file
    ///
    /// If `SHA256SUMS` is in FOLDER, it must have the digest of this file. Default: in FOLDER
    /// `terraform-provider-TYPE_VERSION_manifest.json` or `terraform-registry-manifest.json`, or else
    /// the latter in the parent of FOLDER. Example: `--manifest terraform-registry-manifest.json`
    #[arg(long, value_name = "FILE")]
    pub(crate) manifest: Option<PathBuf>,

    /// Send at most this number of archives at the same time, from 1 to 16
    ///
    /// Default: 4. Example: `--jobs 8`
    #[arg(long, value_name = "NUMBER", default_value_t = 4, hide_default_value = true,
        value_parser = clap::value_parser!(u16).range(1..=16))]
    pub(crate) jobs: u16,

    /// List the archives, their digests and the key, and send nothing
    ///
    /// It does not ask the registry which platforms it has. Default: off. Example: `--dry-run`
    #[arg(long)]
    pub(crate) dry_run: bool,

    #[command(flatten)]
    pub(crate) api: ApiTarget,
}

/// The flags that say which key signs.
#[derive(Debug, Args)]
pub(crate) struct KeyFlags {
    /// Sign with the private OpenPGP key in this file, in ASCII armor
    ///
    /// `gpg --armor --export-secret-keys KEYID` writes such a file. Use RSA with 4096 bits: clients of
    /// before 2022 refuse Ed25519. Default: the signature in FOLDER. Example: `--key release-key.asc`
    #[arg(long, value_name = "FILE")]
    pub(crate) key: Option<PathBuf>,

    /// Read the passphrase of `--key` from the first line of this file
    ///
    /// Default: the variable `STILE_KEY_PASSPHRASE`, or else the program asks for it on the terminal.
    /// Example: `--passphrase-file /run/secrets/release-key`
    #[arg(long, value_name = "FILE", requires = "key")]
    pub(crate) passphrase_file: Option<PathBuf>,

    /// Sign with this RSA key of AWS KMS, which no program can read
    ///
    /// The key has usage `SIGN_VERIFY` and specification `RSA_4096`. You need `kms:DescribeKey`,
    /// `kms:GetPublicKey` and `kms:Sign` on it.
    /// Default: none. Example: `--kms-key arn:aws:kms:eu-central-1:111122223333:key/UUID`
    #[arg(long, value_name = "ARN", conflicts_with = "key")]
    pub(crate) kms_key: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct ProviderList {
    /// A namespace, or an address `namespace/type`; default: every provider you may read
    #[arg(value_name = "NAMESPACE | ADDRESS")]
    pub(crate) of: Option<String>,

    #[command(flatten)]
    pub(crate) api: ApiTarget,
}

#[derive(Debug, Args)]
pub(crate) struct ProviderShow {
    /// The provider's address `namespace/type`
    #[arg(value_name = "ADDRESS")]
    pub(crate) address: String,

    /// The version, such as `1.2.0`; default: the latest one
    #[arg(value_name = "VERSION")]
    pub(crate) version: Option<String>,

    #[command(flatten)]
    pub(crate) api: ApiTarget,
}

#[derive(Debug, Args)]
pub(crate) struct ProviderOne {
    /// The provider's address `namespace/type`
    #[arg(value_name = "ADDRESS")]
    pub(crate) address: String,

    /// The version, such as `1.2.0`
    #[arg(value_name = "VERSION")]
    pub(crate) version: String,

    #[command(flatten)]
    pub(crate) api: ApiTarget,
}

#[derive(Debug, Args)]
pub(crate) struct ProviderDeprecate {
    #[command(flatten)]
    pub(crate) of: ProviderOne,

    #[command(flatten)]
    pub(crate) statement: Statement,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ProviderKeysVerb {
    /// Register a public key, so that versions that it signs can be published
    ///
    /// It needs `create_grant` on the namespace: otherwise, a stolen token with `upload` could bring
    /// its own key. You can repeat the command.
    ///
    /// Example: `gpg --armor --export KEYID > key.asc`, then
    /// `stile-admin provider keys add key.asc --namespace acme`
    Add(ProviderKeysAdd),
    /// List the keys of a namespace
    ///
    /// Example: `stile-admin provider keys list --namespace acme`
    List(ProviderKeys),
    /// Accept no new signature of a key
    ///
    /// Versions that it signed stay, and clients still verify them. With `--compromised`, no client
    /// gets them until you publish each again with another key. The command lists them.
    ///
    /// Example: `stile-admin provider keys retire F9BA19AD6BE4698A --namespace acme`
    Retire(ProviderKeysRetire),
    /// Print the public OpenPGP key of a key in AWS KMS, for `provider keys add`
    ///
    /// The output is always the same for one key. It needs no registry.
    ///
    /// Example: `stile-admin provider keys export --kms-key ARN > key.asc`
    Export(ProviderKeysExport),
}

#[derive(Debug, Args)]
pub(crate) struct ProviderKeys {
    /// The namespace of the keys
    ///
    /// Required. Example: `--namespace acme`
    #[arg(long, value_name = "NS")]
    pub(crate) namespace: String,

    #[command(flatten)]
    pub(crate) api: ApiTarget,
}

#[derive(Debug, Args)]
pub(crate) struct ProviderKeysAdd {
    /// The file with one armored public key
    #[arg(value_name = "FILE")]
    pub(crate) file: PathBuf,

    #[command(flatten)]
    pub(crate) keys: ProviderKeys,
}

#[derive(Debug, Args)]
pub(crate) struct ProviderKeysRetire {
    /// The id of the key: 16 hexadecimal digits, as `provider keys list` shows it
    #[arg(value_name = "KEYID", value_parser = key_id)]
    pub(crate) key_id: KeyId,

    /// Refuse what the key signed, because a thief can have the key
    ///
    /// Default: off. Example: `--compromised`
    #[arg(long)]
    pub(crate) compromised: bool,

    #[command(flatten)]
    pub(crate) keys: ProviderKeys,
}

/// Parses the id of a key. GnuPG writes it in upper case, and other programs do not.
fn key_id(text: &str) -> Result<KeyId, String> {
    let digits = text.strip_prefix("0x").unwrap_or(text).to_ascii_uppercase();
    KeyId::parse(&digits).ok_or_else(|| "must be 16 hexadecimal digits".to_owned())
}

#[derive(Debug, Args)]
pub(crate) struct ProviderKeysExport {
    /// The ARN of the key
    ///
    /// Required. Example: `--kms-key arn:aws:kms:eu-central-1:111122223333:key/UUID`
    #[arg(long, value_name = "ARN")]
    pub(crate) kms_key: String,

    /// Use only the credentials of this AWS profile
    ///
    /// Default: the first credentials that AWS tools find: keys in the environment come before
    /// `AWS_PROFILE`. Example: `--profile deploy`
    #[arg(long, value_name = "PROFILE", value_parser = NonEmptyStringValueParser::new())]
    pub(crate) profile: Option<String>,

    /// Wait at most this many seconds for KMS, from 1 to 600
    ///
    /// Default: 4. Variable: `STILE_TIMEOUT`. Example: `--timeout 30`
    #[arg(long, value_name = "SECONDS", env = "STILE_TIMEOUT", hide_env = true,
        value_parser = clap::value_parser!(u64).range(TIMEOUT_SECONDS))]
    pub(crate) timeout: Option<u64>,
}
