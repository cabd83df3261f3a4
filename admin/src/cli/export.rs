//! The flags of `export`.

use std::path::PathBuf;

use clap::Args;

use crate::target::ApiTarget;

/// Write modules and providers as a tree of files, which any web server can serve
///
/// Clients of that server need no token: the tree is a public registry. This command reads through
/// the API, with a token that may only download. It verifies the digest of each archive.
///
/// Repeat it with the same folder: it writes only what changed, and an index after what it names.
/// If you stop it, every file in the folder is complete, and the next run continues.
///
/// A deprecated version, and a provider's yanked version, stays. An unpublished module leaves the
/// index. A version whose signing key is compromised is left out, and its files are deleted.
///
/// Terraform needs a header for modules, which `snippets/nginx.conf` and
/// `snippets/cloudfront-function.js` in the folder add. `content-types.txt` lists the media types.
/// See `docs/export.md`.
///
/// Example: `stile-admin export --out /srv/registry --namespace public`
#[derive(Debug, Args)]
pub(crate) struct Export {
    /// Write the tree to this folder
    ///
    /// It is new, empty, or an export of the same registry. Required. Example: `--out /srv/registry`
    #[arg(long, value_name = "DIR")]
    pub(crate) out: PathBuf,

    /// Export only this namespace. Repeat it for several
    ///
    /// The packages of other namespaces leave the index of the export. Default: every namespace that
    /// you may read. Example: `--namespace public`
    #[arg(long = "namespace", value_name = "NS")]
    pub(crate) namespaces: Vec<String>,

    /// Delete the files of versions that the registry no longer lists
    ///
    /// A client with an old index can still ask for them, so wait until caches have expired.
    /// Default: off, and then they stay. Example: `--prune`
    #[arg(long)]
    pub(crate) prune: bool,

    /// Show what would change, and change nothing
    ///
    /// Default: off. Example: `--dry-run`
    #[arg(long)]
    pub(crate) dry_run: bool,

    #[command(flatten)]
    pub(crate) api: ApiTarget,
}
