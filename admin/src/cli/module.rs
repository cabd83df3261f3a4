//! The flags of `module` for several modules, and for the life of a version.

use clap::Args;

use crate::target::ApiTarget;

/// The flags that publish every module in a folder.
#[derive(Debug, Args)]
pub(crate) struct SeveralModules {
    /// Publish each folder directly in SOURCE that has `.tf` or `.tofu` files, as a module
    ///
    /// The name of a folder is the name of its module. Without `--version`, a tag at HEAD of
    /// its git repository is its version: `vpc/v1.2.0`, `vpc-v1.2.0` or `vpc@v1.2.0` for the folder
    /// `vpc`, or else `v1.2.0` for every folder. A folder without such a tag is not published.
    /// Requires `--namespace` and `--system`. Default: off. Example: `--all`
    #[arg(long, requires = "namespace", requires = "system")]
    pub(crate) all: bool,

    /// With `--all`, publish the modules in this namespace
    ///
    /// Example: `--namespace acme`
    #[arg(long, value_name = "NS", requires = "all")]
    pub(crate) namespace: Option<String>,

    /// With `--all`, publish the modules for this system
    ///
    /// Example: `--system aws`
    #[arg(long, value_name = "SYSTEM", requires = "all")]
    pub(crate) system: Option<String>,

    /// With `--all`, publish every module with this version
    ///
    /// Default: the version of each module is in a tag. Example: `--version 1.2.0`
    #[arg(long, value_name = "VERSION", requires = "all")]
    pub(crate) version: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct ModuleOne {
    /// The module's address `namespace/name/system`
    #[arg(value_name = "ADDRESS")]
    pub(crate) address: String,

    /// The version, such as `1.2.0`
    #[arg(value_name = "VERSION")]
    pub(crate) version: String,

    #[command(flatten)]
    pub(crate) api: ApiTarget,
}

/// What a publisher says when a version is deprecated or taken back.
#[derive(Debug, Args)]
pub(crate) struct Statement {
    /// Say why, in one sentence
    ///
    /// Required. Example: `--reason 'it opens port 22 to the internet'`
    #[arg(long, value_name = "TEXT")]
    pub(crate) reason: String,

    /// Name an `https` page that says more
    ///
    /// Default: none. Example: `--link https://wiki.example.com/releases`
    #[arg(long, value_name = "URL")]
    pub(crate) link: Option<String>,

    /// Name what to use instead: another version, or another address
    ///
    /// Default: none. Example: `--replacement 1.3.0`
    #[arg(long, value_name = "VERSION | ADDRESS")]
    pub(crate) replacement: Option<String>,
}

/// The flags of `deprecate` and `unpublish`.
#[derive(Debug, Args)]
pub(crate) struct ModuleStatement {
    #[command(flatten)]
    pub(crate) of: ModuleOne,

    #[command(flatten)]
    pub(crate) statement: Statement,
}

#[derive(Debug, Args)]
pub(crate) struct ModuleShow {
    /// The module's address `namespace/name/system`
    #[arg(value_name = "ADDRESS")]
    pub(crate) address: String,

    /// The version, such as `1.2.0`; default: the latest one
    #[arg(value_name = "VERSION")]
    pub(crate) version: Option<String>,

    #[command(flatten)]
    pub(crate) api: ApiTarget,
}

#[derive(Debug, Args)]
pub(crate) struct ModuleUsage {
    /// The module's address `namespace/name/system`
    #[arg(value_name = "ADDRESS")]
    pub(crate) address: String,

    /// Show only this version, or the versions that begin with these numbers
    ///
    /// Default: all versions. Example: `--version 1`, `--version 1.2` or `--version 1.2.0`
    #[arg(long, value_name = "VERSION")]
    pub(crate) version: Option<String>,

    /// Show the downloads of this number of days, today included
    ///
    /// A registry counts days in UTC. It answers for at most 366 days.
    /// Default: 30. Example: `--days 90`
    #[arg(long, value_name = "DAYS", default_value_t = 30, hide_default_value = true)]
    pub(crate) days: u32,

    #[command(flatten)]
    pub(crate) api: ApiTarget,
}

#[derive(Debug, Args)]
pub(crate) struct ModuleSearch {
    /// The words to find, at most 8
    #[arg(value_name = "WORD", required = true)]
    pub(crate) words: Vec<String>,

    /// Search only this namespace
    ///
    /// Default: every namespace that you may read. Example: `--namespace acme`
    #[arg(long, value_name = "NS")]
    pub(crate) namespace: Option<String>,

    /// Search only modules for this system
    ///
    /// Default: every system. Example: `--system aws`
    #[arg(long, value_name = "SYSTEM")]
    pub(crate) system: Option<String>,

    /// Show at most this number of modules, from 1 to 1000
    ///
    /// Default: 20. Example: `--limit 100`
    #[arg(long, value_name = "NUMBER", default_value_t = 20, hide_default_value = true,
        value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub(crate) limit: u16,

    #[command(flatten)]
    pub(crate) api: ApiTarget,
}
