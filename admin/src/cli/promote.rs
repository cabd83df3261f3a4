//! The flags of `promote`.

use clap::Args;

use crate::target::TwoRegistries;

/// Publish a version of one registry in another one, with the same bytes
///
/// ADDRESS is `namespace/name/system` of a module, or `namespace/type` of a provider. The address and
/// the version are the same at both registries.
///
/// The program downloads each archive, and compares it with the digest that `--from` says. For a
/// provider, that is the signed `SHA256SUMS`, whose signature it verifies. It sends the same archives,
/// `SHA256SUMS`, signature and manifest to `--to`, which checks them as at each publish. The key must
/// be registered there: see `provider keys add`. At the end, it compares the digests of both.
///
/// You need `download` at `--from`, and `upload` and `download` at `--to`. Each registry gets a token
/// of its own, and never that of the other.
///
/// `--to` records as claims where the version comes from: the registry, who published it there, and
/// what its publisher claimed. A deprecation is not promoted. A version that was taken back is refused.
///
/// You can repeat the command, also after you stopped it. If the version is there with the same bytes,
/// it is `unchanged`. With other bytes, it is refused. A provider can get further platforms.
///
/// Example: `stile-admin promote --from staging.example.com --to registry.example.com acme/dns 1.2.0`
#[derive(Debug, Args)]
pub(crate) struct Promote {
    /// The address of a module or a provider
    #[arg(value_name = "ADDRESS")]
    pub(crate) address: String,

    /// The version, such as `1.2.0`
    #[arg(value_name = "VERSION")]
    pub(crate) version: String,

    #[command(flatten)]
    pub(crate) registries: TwoRegistries,

    /// Transfer at most this number of archives at the same time, from 1 to 16
    ///
    /// A module has one archive. Default: 4. Example: `--jobs 8`
    #[arg(long, value_name = "NUMBER", default_value_t = 4, hide_default_value = true,
        value_parser = clap::value_parser!(u16).range(1..=16))]
    pub(crate) jobs: u16,

    /// Compare both registries, and show what would be sent
    ///
    /// It downloads no archive, so it verifies none. Default: off. Example: `--dry-run`
    #[arg(long)]
    pub(crate) dry_run: bool,
}
