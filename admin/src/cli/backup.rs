//! The flags of `backup` and `restore`.

use std::path::PathBuf;

use clap::Args;

use crate::target::StoreTarget;

#[derive(Debug, Args)]
pub(crate) struct Backup {
    /// Write the backup to this folder
    ///
    /// It is new, empty, or the backup of the same registry. Use another disk than the data folder's.
    /// Required. Example: `--out /backup/stile`
    #[arg(long, value_name = "FOLDER")]
    pub(crate) out: PathBuf,

    #[command(flatten)]
    pub(crate) store: StoreTarget,
}

#[derive(Debug, Args)]
pub(crate) struct Restore {
    /// Restore the backup in this folder
    ///
    /// Required. Example: `--from /backup/stile`
    #[arg(long, value_name = "FOLDER")]
    pub(crate) from: PathBuf,

    // `--data` is the new folder.
    #[command(flatten)]
    pub(crate) store: StoreTarget,
}
