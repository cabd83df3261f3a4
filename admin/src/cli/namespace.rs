//! The subcommands and flags of `namespace`.

use clap::{Args, Subcommand};

use crate::target::StoreTarget;

#[derive(Debug, Subcommand)]
pub(crate) enum NamespaceVerb {
    /// Create a namespace
    ///
    /// The first grant on a namespace also creates it. You can repeat the command.
    ///
    /// Example: `stile-admin namespace create acme --data /var/lib/stile`
    Create(NamespaceOne),
    /// Show one namespace
    ///
    /// Example: `stile-admin namespace show acme --data /var/lib/stile`
    Show(NamespaceOne),
    /// List all namespaces
    ///
    /// Example: `stile-admin namespace list --data /var/lib/stile`
    List(StoreTarget),
}

#[derive(Debug, Args)]
pub(crate) struct NamespaceOne {
    /// The namespace, such as `acme`
    #[arg(value_name = "NAMESPACE")]
    pub(crate) namespace: String,

    #[command(flatten)]
    pub(crate) store: StoreTarget,
}
