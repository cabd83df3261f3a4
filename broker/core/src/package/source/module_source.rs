//! The source of one version, which clients get unchanged in `X-Terraform-Get`.

use std::fmt;

use super::location::{Getter, SourceError, check_path, split};
use crate::package::Version;

/// The ends of file names that make clients unpack an archive, whatever fetches it.
///
/// From a repository, a client then takes one file, and clones the path without its last part. So
/// the source of a repository must not have such an end.
const ARCHIVE_ENDS: [&str; 15] = [
    ".zip",
    ".tar",
    ".gz",
    ".tgz",
    ".bz2",
    ".tbz2",
    ".xz",
    ".txz",
    ".zst",
    ".tzst",
    ".tar.gz",
    ".tar.bz2",
    ".tar.tbz2",
    ".tar.xz",
    ".tar.zst",
];

/// The formats of archives with folders that Terraform and OpenTofu unpack.
///
/// A client takes another URL, or `archive=false`, for a page that can name any other source, also
/// a local path. So a source that is not a repository must be an archive.
const ARCHIVE_FORMATS: [&str; 6] = ["zip", "tar.gz", "tgz", "tar.bz2", "tar.xz", "txz"];

/// The maximum of `depth`, in commits.
const MAX_DEPTH: u32 = 1_000_000;

/// The maximum length of a branch or a tag in bytes.
const MAX_REFERENCE: usize = 200;

/// The source of a version: a repository at a commit, or an archive at another server.
///
/// Examples: `git::https://github.com/acme/vpc.git?ref=v1.2.0`,
/// `https://example.com/vpc.zip//modules/vpc`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModuleSource {
    text: String,
    getter: Getter,
    /// The length of the text before the folder and the query.
    package: usize,
    is_moving: bool,
}

/// What a source selects in a repository.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GitReference<'a> {
    /// The URL of the repository, for `git`.
    pub repository: &'a str,
    /// The commit, tag or branch. `None` for the default branch.
    pub reference: Option<&'a str>,
}

impl ModuleSource {
    /// Parses a source.
    ///
    /// # Errors
    ///
    /// [`SourceError`], if the text could mean something else than a repository or an archive at
    /// the host that it shows, or if it has another spelling.
    pub fn parse(text: &str) -> Result<Self, SourceError> {
        let (address, query) = match text.split_once('?') {
            None => (text, None),
            Some((address, query)) => (address, Some(query)),
        };
        let (getter, path) = split(address)?;
        let (path, folder) = match path.split_once("//") {
            None => (path, None),
            Some((path, folder)) => (path, Some(folder)),
        };
        check_path(path)?;
        folder.map_or(Ok(()), check_path)?;
        let query = Query::parse(getter, query)?;
        if getter.is_git() {
            if ARCHIVE_ENDS.iter().any(|end| path.ends_with(end)) {
                return Err(SourceError::new(
                    "a repository must not have the name of an archive, because clients then \
                     clone another one",
                ));
            }
        } else if query.archive.is_none() && !has_archive_name(path) {
            return Err(SourceError::new(format_args!(
                "without `git::`, its path must end with a format, or its query must have \
                 `archive=FORMAT`; the formats are {}",
                ARCHIVE_FORMATS.map(|format| format!("`{format}`")).join(", ")
            )));
        }
        let package = address.len() - folder.map_or(0, |folder| folder.len() + "//".len());
        let is_moving = getter.is_git() && !query.reference.is_some_and(is_fixed);
        Ok(Self { text: text.to_owned(), getter, package, is_moving })
    }

    /// Returns the text, as the publisher wrote it.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Returns whether the source is a branch, or a tag that is not `v` and a version. Its content
    /// can change at any time.
    pub const fn is_moving(&self) -> bool {
        self.is_moving
    }

    /// Returns the repository or the archive, without the folder in it and the query.
    pub(super) fn package(&self) -> &str {
        &self.text[..self.package]
    }

    /// Returns what the source selects in a repository. `None` for an archive.
    pub fn git(&self) -> Option<GitReference<'_>> {
        let repository = self.package().strip_prefix("git::")?;
        let query = self.text.split_once('?').map(|(_, query)| query).unwrap_or_default();
        let reference = query.split('&').find_map(|pair| pair.strip_prefix("ref="));
        Some(GitReference { repository, reference })
    }

    /// Returns whether the source has the full id of a commit, which no branch can have.
    pub fn has_commit(&self) -> bool {
        self.git().and_then(|git| git.reference).is_some_and(is_sha1)
    }

    /// Returns the same source at a commit.
    ///
    /// # Errors
    ///
    /// [`SourceError`], if the id is not a full one, if the source is not a repository, or if it has
    /// a `depth`, which no client can use for a commit.
    pub fn at_commit(&self, commit: &str) -> Result<Self, SourceError> {
        if !self.getter.is_git() || !is_commit(commit) {
            return Err(SourceError::new("only a repository has commits, each with a full id"));
        }
        let (address, query) = self.text.split_once('?').unwrap_or((&self.text, ""));
        let others = query.split('&').filter(|pair| !pair.is_empty() && !pair.starts_with("ref="));
        let reference = format!("ref={commit}");
        let query: Vec<&str> = std::iter::once(reference.as_str()).chain(others).collect();
        Self::parse(&format!("{address}?{}", query.join("&")))
    }
}

impl fmt::Display for ModuleSource {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.text)
    }
}

/// The query of a source. Clients read other keys, too: one names the file of a private key.
#[derive(Debug, Default)]
struct Query<'a> {
    reference: Option<&'a str>,
    depth: Option<&'a str>,
    checksum: Option<&'a str>,
    archive: Option<&'a str>,
}

impl<'a> Query<'a> {
    fn parse(getter: Getter, query: Option<&'a str>) -> Result<Self, SourceError> {
        let mut found = Self::default();
        for pair in query.into_iter().flat_map(|query| query.split('&')) {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            let slot = match (key, getter.is_git()) {
                ("ref", true) => &mut found.reference,
                ("depth", true) => &mut found.depth,
                ("checksum", false) => &mut found.checksum,
                ("archive", false) => &mut found.archive,
                (_, true) => {
                    return Err(SourceError::new(
                        "the query of a repository must have only `ref` and `depth`",
                    ));
                }
                (_, false) => {
                    return Err(SourceError::new(
                        "the query of an archive must have only `checksum` and `archive`",
                    ));
                }
            };
            if slot.replace(value).is_some() {
                return Err(SourceError::new(format_args!("its query has `{key}` twice")));
            }
        }
        found.check()?;
        Ok(found)
    }

    fn check(&self) -> Result<(), SourceError> {
        if !self.reference.is_none_or(is_reference) {
            return Err(SourceError::new(
                "`ref` must be a commit, a tag or a branch, with only ASCII letters, digits and \
                 the characters `-._/`",
            ));
        }
        if !self.depth.is_none_or(is_depth) {
            return Err(SourceError::new("`depth` must be a number from 1 on"));
        }
        if self.depth.is_some() && self.reference.is_some_and(is_commit) {
            return Err(SourceError::new(
                "`depth` must not be in a source with a commit, because clients cannot use both",
            ));
        }
        if !self.checksum.is_none_or(is_checksum) {
            return Err(SourceError::new(
                "`checksum` must be `sha256:` or `sha512:` with the digest in lower-case hex",
            ));
        }
        if !self.archive.is_none_or(|archive| ARCHIVE_FORMATS.contains(&archive)) {
            return Err(SourceError::new(format_args!(
                "`archive` must be one of {}",
                ARCHIVE_FORMATS.map(|format| format!("`{format}`")).join(", ")
            )));
        }
        Ok(())
    }
}

/// Returns whether a path ends with the name of an archive, such as `vpc.zip`.
fn has_archive_name(path: &str) -> bool {
    let is_format =
        |format: &str| path.strip_suffix(format).is_some_and(|name| name.ends_with('.'));
    ARCHIVE_FORMATS.into_iter().any(is_format)
}

/// Returns whether a commit, tag or branch has a name that every program reads in the same way.
/// With a dash at its start, it would be an option of `git`.
fn is_reference(text: &str) -> bool {
    let is_accepted = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
    let is_part = |part: &str| {
        !part.is_empty()
            && !part.starts_with(['-', '.'])
            && !part.ends_with(".lock")
            && !part.ends_with('.')
            && !part.contains("..")
            && part.bytes().all(is_accepted)
    };
    text.len() <= MAX_REFERENCE && text.split('/').all(is_part)
}

/// Returns whether a reference always means the same commit, or is named like a version.
fn is_fixed(reference: &str) -> bool {
    is_sha1(reference)
        || reference.strip_prefix('v').is_some_and(|version| Version::parse(version).is_ok())
}

/// Returns whether a text has the form of a full commit id: a SHA-1 or a SHA-256.
fn is_commit(text: &str) -> bool {
    is_sha1(text) || is_hex(text, 64)
}

/// Returns whether a text is the full id of a commit in a repository with SHA-1, as nearly all are.
///
/// There, 64 digits are no id, but can be the name of a branch, which `git checkout` then follows.
/// So a publisher could move the content of a version that seems to be fixed.
fn is_sha1(text: &str) -> bool {
    is_hex(text, 40)
}

fn is_depth(text: &str) -> bool {
    let depth: Option<u32> = text.parse().ok();
    depth.is_some_and(|depth| (1..=MAX_DEPTH).contains(&depth) && depth.to_string() == text)
}

fn is_checksum(text: &str) -> bool {
    let digest =
        |kind: &str, length| text.strip_prefix(kind).is_some_and(|digest| is_hex(digest, length));
    digest("sha256:", 64) || digest("sha512:", 128)
}

fn is_hex(text: &str, length: usize) -> bool {
    text.len() == length && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}
