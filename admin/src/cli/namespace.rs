//! The subcommands and flags of `namespace`.

use clap::{Args, Subcommand};
use stile_store::LimitChange;

use crate::target::StoreTarget;

#[derive(Debug, Subcommand)]
pub(crate) enum NamespaceVerb {
    /// Create a namespace
    ///
    /// The first grant on a namespace also creates it. You can repeat the command.
    ///
    /// Example: `stile-admin namespace create acme --data /var/lib/stile`
    Create(NamespaceOne),
    /// Set limits and allowed sources of a namespace
    ///
    /// A version that exceeds a limit is not published. Existing versions stay, also above a limit.
    /// A limit that you do not name does not change.
    ///
    /// A version can point to a repository, to an archive at another server, or to an object of an S3
    /// bucket, if the namespace allows that source. The registry checks this at each publish and each
    /// download.
    ///
    /// Example: `stile-admin namespace set acme --max-bytes 10GB --max-versions 1000 --data
    /// /var/lib/stile`
    Set(NamespaceSet),
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

#[derive(Debug, Args)]
#[group(id = "limits", required = true, multiple = true, args = [
    "max_bytes", "max_versions", "source", "no_source",
])]
pub(crate) struct NamespaceSet {
    /// The namespace, such as `acme`
    #[arg(value_name = "NAMESPACE")]
    pub(crate) namespace: String,

    #[command(flatten)]
    pub(crate) store: StoreTarget,

    /// The most bytes of all archives in the namespace, or `none`
    ///
    /// A number of bytes, or with one of the units `KB`, `MB`, `GB`, `TB`, `KiB`, `MiB`, `GiB` and
    /// `TiB`. Default: the limit does not change. Example: `--max-bytes 10GB`
    #[arg(long, value_name = "SIZE | none", value_parser = size)]
    pub(crate) max_bytes: Option<LimitChange>,

    /// The most versions of all modules in the namespace, or `none`
    ///
    /// With 0, no one can publish. Default: the limit does not change.
    /// Example: `--max-versions 1000`
    #[arg(long, value_name = "NUMBER | none", value_parser = number)]
    pub(crate) max_versions: Option<LimitChange>,

    /// Allow versions with a source at this address or below
    ///
    /// The address of a server, or of a path on it, as it begins in a source. Every other part must
    /// be the same, also the user and the port. `git::https://HOST/acme` includes
    /// `git::https://HOST/acme/vpc`, and not `git::https://HOST/acme-x`. Repeat the flag for more.
    /// Other allowed sources do not change.
    /// `s3://BUCKET/PREFIX` allows objects of a bucket, with this key or below. It needs `--region`.
    /// Default: none. Example: `--source git::https://github.com/acme`
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) source: Vec<String>,

    /// For `--source s3://…`, the region of the bucket
    ///
    /// The registry reads the objects with its own AWS credentials, which must allow that, too.
    /// Default: none. Example: `--region eu-central-1`
    #[arg(long, value_name = "REGION", requires = "source")]
    pub(crate) region: Option<String>,

    /// For the repositories of `--source`, also allow branches, and tags that are not `v` and a version
    ///
    /// Then the content of a published version can change at any time.
    /// Default: only full commit ids, and tags such as `v1.2.0`. Example: `--allow-moving-refs`
    #[arg(long, requires = "source")]
    pub(crate) allow_moving_refs: bool,

    /// Remove all allowed sources, before `--source` adds others
    ///
    /// Clients then get no version with a source that is not allowed any more.
    /// Default: off. Example: `--no-source`
    #[arg(long)]
    pub(crate) no_source: bool,
}

/// The word for no limit.
const NONE: &str = "none";

/// The units of a size, and their bytes.
const UNITS: [(&str, u64); 8] = [
    ("KB", 1000),
    ("MB", 1000_u64.pow(2)),
    ("GB", 1000_u64.pow(3)),
    ("TB", 1000_u64.pow(4)),
    ("KiB", 1024),
    ("MiB", 1024_u64.pow(2)),
    ("GiB", 1024_u64.pow(3)),
    ("TiB", 1024_u64.pow(4)),
];

/// The largest limit that a store can hold.
const LARGEST: u64 = i64::MAX as u64;

fn size(text: &str) -> Result<LimitChange, String> {
    if text == NONE {
        return Ok(LimitChange::Unlimited);
    }
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = match &text[digits.len()..] {
        "" => Some(1),
        unit => UNITS.iter().find(|(name, _)| *name == unit).map(|(_, bytes)| *bytes),
    };
    let bytes = unit.zip(whole(digits)).and_then(|(unit, number)| unit.checked_mul(number));
    bytes.filter(|bytes| *bytes <= LARGEST).map(LimitChange::At).ok_or_else(|| {
        "must be `none` or a whole number of bytes, with or without a unit such as `MB` or `GiB`"
            .to_owned()
    })
}

fn number(text: &str) -> Result<LimitChange, String> {
    match text {
        NONE => Ok(LimitChange::Unlimited),
        text => whole(text)
            .filter(|number| *number <= LARGEST)
            .map(LimitChange::At)
            .ok_or_else(|| "must be `none` or a whole number".to_owned()),
    }
}

/// Parses a number that has only digits.
fn whole(digits: &str) -> Option<u64> {
    digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse().ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_size_is_a_whole_number_with_a_known_unit_or_none() {
        for text in [
            "",
            "GB",
            "10gb",
            "10 GB",
            "1.5GB",
            "-1",
            "+1",
            "1e3",
            "10PB",
            "10GBB",
            "0x10",
            "None",
            "9223372036854775808",
            "9223372036854775807KB",
            "99999999TB",
            "\u{661}",
            "10\u{e9}",
        ] {
            size(text).unwrap_err();
        }
        for (text, bytes) in [
            ("0", 0),
            ("1500", 1500),
            ("10KB", 10_000),
            ("3MiB", 3_145_728),
            ("10GB", 10_000_000_000),
            ("2TiB", 2_199_023_255_552),
            ("9223372036854775807", LARGEST),
        ] {
            assert_eq!(size(text), Ok(LimitChange::At(bytes)), "{text}");
        }
        assert_eq!(size("none"), Ok(LimitChange::Unlimited));
    }

    #[test]
    fn a_number_of_versions_is_a_whole_number_or_none() {
        for text in ["", "1GB", "-1", "+1", "1.0", "all", "NONE", "9223372036854775808"] {
            number(text).unwrap_err();
        }
        assert_eq!(number("0"), Ok(LimitChange::At(0)));
        assert_eq!(number("1000"), Ok(LimitChange::At(1000)));
        assert_eq!(number("none"), Ok(LimitChange::Unlimited));
    }
}
