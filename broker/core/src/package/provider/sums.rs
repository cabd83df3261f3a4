//! The list of digests of a provider version, `SHA256SUMS`, which its publisher signs.
//!
//! Clients read it with little care: Terraform crashes on a blank line, and drops every hash of the
//! version if one line has another form. So the registry accepts only lines that all clients read.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use stile_protocol::names::ProviderType;

use super::shown::shown;
use super::{FileNameError, Platform, ProviderFile, Release};
use crate::package::{Version, is_sha256};

/// Maximum size of the list in bytes. It has space for 400 files.
///
/// The limit stops a publisher from making every `init` of a client load a large list.
pub const MAX_SUMS: usize = 64 * 1024;

/// The list of digests of a version: a SHA-256 for each zip archive, and for the manifest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sums {
    text: String,
    files: BTreeMap<Platform, String>,
    manifest: Option<String>,
}

/// The error for a text that is not a list of digests.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SumsError {
    /// The text is too long.
    #[error("`SHA256SUMS` is larger than 64 KiB")]
    TooLarge,
    /// The text has no line.
    #[error("`SHA256SUMS` is empty")]
    Empty,
    /// A line ends with CR and LF.
    #[error("`SHA256SUMS` must end each line with LF only, but line {0} has a CR")]
    CarriageReturn(usize),
    /// The last line has no end.
    #[error("`SHA256SUMS` must end with a line break")]
    NoFinalLineBreak,
    /// A line is blank. Terraform crashes on it.
    #[error("line {0} of `SHA256SUMS` is blank, and Terraform crashes on a blank line")]
    Blank(usize),
    /// A line has another form.
    #[error(
        "line {0} of `SHA256SUMS` must be a SHA-256 in 64 lower-case hex digits, two spaces, and a file name"
    )]
    Malformed(usize),
    /// A line has the form of `sha256sum --binary`.
    #[error(
        "line {0} of `SHA256SUMS` has ` *` before the name, and Terraform does not find the file; use two spaces"
    )]
    Binary(usize),
    /// A line names a file that the version cannot have.
    #[error("line {line} of `SHA256SUMS`: {problem}")]
    Name {
        /// The number of the line, from 1.
        line: usize,
        /// The problem of the name.
        problem: FileNameError,
    },
    /// Two lines name one file.
    #[error("`SHA256SUMS` has two lines for `{0}`")]
    Twice(String),
    /// The list names no zip archive.
    #[error("`SHA256SUMS` has no line for a zip archive")]
    NoArchive,
}

impl SumsError {
    /// Returns what the publisher can set in GoReleaser, if the list has a line for a file that is
    /// neither a zip archive nor the manifest under its name.
    ///
    /// GoReleaser lists SBOMs, packages and source archives too. Terraform writes the digest of each line
    /// into lock files, and this registry and the public one refuse such a line.
    pub fn hint(&self) -> Option<&'static str> {
        use FileNameError::{OtherProvider, OtherVersion, Unknown};
        let Self::Name { problem, .. } = self else { return None };
        let (OtherProvider { found, .. } | OtherVersion { found, .. } | Unknown(found)) = problem
        else {
            return None;
        };
        if found.ends_with(".zip") {
            return None;
        }
        Some(if found.ends_with("manifest.json") {
            "set `name_template: '{{ .ProjectName }}_{{ .Version }}_manifest.json'` for the manifest in `checksum.extra_files` of `.goreleaser.yml`"
        } else {
            "in `.goreleaser.yml`, give the zip archives an `id`, set `checksum.ids` to it, and turn off `source`"
        })
    }
}

/// The error for a list that does not continue a published release.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotIncluded {
    /// A published platform has another digest in the list.
    #[error("the file of `{0}` is published with another SHA-256")]
    Different(Platform),
    /// The list has no line for these published platforms.
    #[error("`SHA256SUMS` has no line for published platforms: {}", names(.0))]
    Missing(Vec<Platform>),
}

fn names(platforms: &[Platform]) -> String {
    let names: Vec<_> = platforms.iter().map(|platform| format!("`{platform}`")).collect();
    names.join(", ")
}

impl Sums {
    /// Parses the list of a version.
    ///
    /// # Errors
    ///
    /// [`SumsError`], if a client could reject the list or read it in another way.
    pub fn parse(
        text: &str,
        provider_type: &ProviderType,
        version: &Version,
    ) -> Result<Self, SumsError> {
        if text.len() > MAX_SUMS {
            return Err(SumsError::TooLarge);
        }
        if text.is_empty() {
            return Err(SumsError::Empty);
        }
        let lines = text.strip_suffix('\n').unwrap_or(text).split('\n');
        let (mut files, mut manifest) = (BTreeMap::new(), None);
        for (line, content) in (1..).zip(lines) {
            let (sha256, name) = split_line(line, content)?;
            let file = ProviderFile::parse(name, provider_type, version)
                .map_err(|problem| SumsError::Name { line, problem })?;
            let before = match file {
                ProviderFile::Zip(platform) => files.insert(platform, sha256.to_owned()),
                ProviderFile::Manifest => manifest.replace(sha256.to_owned()),
            };
            if before.is_some() {
                return Err(SumsError::Twice(shown(name)));
            }
        }
        if !text.ends_with('\n') {
            return Err(SumsError::NoFinalLineBreak);
        }
        if files.is_empty() {
            return Err(SumsError::NoArchive);
        }
        Ok(Self { text: text.to_owned(), files, manifest })
    }

    /// Returns the SHA-256 of each zip archive, in lower-case hex.
    pub const fn files(&self) -> &BTreeMap<Platform, String> {
        &self.files
    }

    /// Returns the SHA-256 of the manifest in lower-case hex, if the list has a line for it.
    pub fn manifest(&self) -> Option<&str> {
        self.manifest.as_deref()
    }

    /// Returns the text, which the publisher signed.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Checks that the list has every platform of a published release, with the same digest.
    ///
    /// Lock files of clients have these digests, so a later list must repeat them.
    ///
    /// # Errors
    ///
    /// [`NotIncluded`], if a platform has another digest or is missing. Another digest comes first.
    pub fn includes(&self, release: &Release) -> Result<(), NotIncluded> {
        let mut missing = Vec::new();
        for (platform, file) in &release.files {
            match self.files.get(platform) {
                Some(sha256) if *sha256 == file.sha256 => {}
                Some(_) => return Err(NotIncluded::Different(platform.clone())),
                None => missing.push(platform.clone()),
            }
        }
        if missing.is_empty() { Ok(()) } else { Err(NotIncluded::Missing(missing)) }
    }

    /// Writes the list of a version, with its lines in the order of file names.
    pub fn write(
        provider_type: &ProviderType,
        version: &Version,
        files: &BTreeMap<Platform, String>,
        manifest: Option<&str>,
    ) -> String {
        let zips = files
            .iter()
            .map(|(platform, sha256)| (ProviderFile::Zip(platform.clone()), sha256.as_str()));
        let manifest = manifest.map(|sha256| (ProviderFile::Manifest, sha256));
        let lines: BTreeMap<String, &str> = zips
            .chain(manifest)
            .map(|(file, sha256)| (file.name(provider_type, version), sha256))
            .collect();
        lines.iter().fold(String::new(), |mut text, (name, sha256)| {
            // A `String` accepts every text.
            let _ = writeln!(text, "{sha256}  {name}");
            text
        })
    }
}

/// Returns the digest and the name in a line.
fn split_line(line: usize, content: &str) -> Result<(&str, &str), SumsError> {
    if content.contains('\r') {
        return Err(SumsError::CarriageReturn(line));
    }
    if content.trim().is_empty() {
        return Err(SumsError::Blank(line));
    }
    let (sha256, rest) = content.split_once(' ').ok_or(SumsError::Malformed(line))?;
    if !is_sha256(sha256) {
        return Err(SumsError::Malformed(line));
    }
    if rest.starts_with('*') {
        return Err(SumsError::Binary(line));
    }
    match rest.strip_prefix(' ') {
        Some(name) if !name.is_empty() && !name.contains(char::is_whitespace) => Ok((sha256, name)),
        _ => Err(SumsError::Malformed(line)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::package::provider::{KeyId, ReleaseFile, SignedSums};

    const LINUX: &str = "terraform-provider-dns_1.0.0_linux_amd64.zip";
    const MANIFEST: &str = "terraform-provider-dns_1.0.0_manifest.json";

    fn parsed(text: &str) -> Result<Sums, SumsError> {
        let (dns, version) =
            (ProviderType::parse("dns").unwrap(), Version::parse("1.0.0").unwrap());
        Sums::parse(text, &dns, &version)
    }

    #[test]
    fn a_list_that_a_client_could_misread_is_refused_with_a_sentence() {
        let sha256 = "ab".repeat(32);
        let line = format!("{sha256}  {LINUX}\n");
        for (text, problem) in [
            (String::new(), "is empty"),
            ("\n".to_owned(), "line 1 of `SHA256SUMS` is blank"),
            (format!("{line}\n"), "line 2 of `SHA256SUMS` is blank"),
            (format!("\n{line}"), "line 1 of `SHA256SUMS` is blank"),
            (format!("{line} \n{line}"), "line 2 of `SHA256SUMS` is blank"),
            (line.replace('\n', "\r\n"), "line 1 has a CR"),
            (line.trim_end().to_owned(), "must end with a line break"),
            (format!("{line}{line}"), "has two lines for `terraform-provider-dns_1.0.0_linux"),
            (format!("{line}{}  {LINUX}\n", "cd".repeat(32)), "has two lines for"),
            (format!("{line}{sha256}  {MANIFEST}\n{sha256}  {MANIFEST}\n"), "has two lines for"),
            (format!("{sha256}  {MANIFEST}\n"), "has no line for a zip archive"),
            (format!("{sha256}\n"), "line 1 of `SHA256SUMS` must be a SHA-256"),
            (format!("{line}{LINUX}\n"), "line 2 of `SHA256SUMS` must be a SHA-256"),
            (format!("{sha256} {LINUX}\n"), "line 1 of `SHA256SUMS` must be a SHA-256"),
            (format!("{sha256}   {LINUX}\n"), "line 1 of `SHA256SUMS` must be a SHA-256"),
            (format!("{sha256}\t{LINUX}\n"), "line 1 of `SHA256SUMS` must be a SHA-256"),
            (format!("{sha256}  {LINUX} \n"), "line 1 of `SHA256SUMS` must be a SHA-256"),
            (format!("{sha256} *{LINUX}\n"), "line 1 of `SHA256SUMS` has ` *`"),
            (format!("{}  {LINUX}\n", "AB".repeat(32)), "64 lower-case hex digits"),
            (format!("{}  {LINUX}\n", "ab".repeat(20)), "64 lower-case hex digits"),
            (format!("{}  {LINUX}\n", "gh".repeat(32)), "64 lower-case hex digits"),
            (format!("\u{feff}{line}"), "line 1 of `SHA256SUMS` must be a SHA-256"),
            (format!("{sha256}  README.md\n"), "line 1 of `SHA256SUMS`: file `README.md` must"),
            (line.replace("1.0.0", "1.0.1"), "must have the version `1.0.0`"),
            (line.replace("dns", "d_ns"), "begins with `terraform-provider-dns_`"),
            (line.replace("linux", "macos"), "must have the name `darwin` of Go"),
            (line.repeat(700), "larger than 64 KiB"),
        ] {
            let error = parsed(&text).unwrap_err().to_string();
            assert!(error.contains(problem), "{text:.200?}: {error}");
            assert!(!error.contains(['\n', '\r']), "{error:?}");
        }
    }

    #[test]
    fn a_line_that_goreleaser_adds_for_another_file_is_refused_and_says_what_to_set() {
        let line = format!("{}  {LINUX}\n", "ab".repeat(32));
        for (name, setting) in [
            ("terraform-provider-dns_1.0.0_linux_amd64.zip.sbom.json", Some("`checksum.ids`")),
            ("terraform-provider-dns_1.0.0_linux_amd64_sbom.json", Some("`checksum.ids`")),
            ("terraform-provider-dns-1.0.0.tar.gz", Some("`checksum.ids`")),
            ("terraform-provider-dns_1.0.0_linux_amd64.deb", Some("`checksum.ids`")),
            ("terraform-registry-manifest.json", Some("`checksum.extra_files`")),
            ("terraform-provider-dns_v1.0.0_manifest.json", Some("`checksum.extra_files`")),
            ("terraform-provider-dns_1.0.1_linux_amd64.zip", None),
            ("terraform-provider-web_1.0.0_linux_amd64.zip", None),
            ("terraform-provider-dns_1.0.0_linux.zip", None),
        ] {
            let error = parsed(&format!("{line}{}  {name}\n", "cd".repeat(32))).unwrap_err();
            assert!(matches!(error, SumsError::Name { line: 2, .. }), "{name}: {error}");
            let hint = error.hint();
            assert_eq!(hint.is_some(), setting.is_some(), "{name}: {hint:?}");
            assert!(hint.is_none_or(|hint| hint.contains(setting.unwrap())), "{name}: {hint:?}");
        }
        assert_eq!(parsed("").unwrap_err().hint(), None);
    }

    fn release(files: &[(&str, &str)]) -> Release {
        let file = |sha256: &str| ReleaseFile {
            sha256: sha256.repeat(32),
            h1: String::new(),
            bytes: 1,
            object_version: None,
        };
        let files =
            files.iter().map(|(platform, sha256)| (platform.parse().unwrap(), file(sha256)));
        let key_id = KeyId::parse("F9BA19AD6BE4698A").unwrap();
        let sums = SignedSums { text: String::new(), signature: Vec::new(), key_id };
        Release::new(vec!["5.0".parse().unwrap()], files.collect(), sums, None)
    }

    #[test]
    fn a_written_list_is_parsed_and_continues_a_release_with_the_same_digests_only() {
        let digests = [("linux_amd64", "ab"), ("darwin_arm64", "cd")];
        let files = digests
            .map(|(platform, sha256)| (platform.parse::<Platform>().unwrap(), sha256.repeat(32)));
        let (dns, version) =
            (ProviderType::parse("dns").unwrap(), Version::parse("1.0.0").unwrap());
        let manifest = "ef".repeat(32);
        let text = Sums::write(&dns, &version, &files.clone().into(), Some(&manifest));
        let sums = parsed(&text).unwrap();
        assert_eq!(sums.text(), text);
        assert_eq!(*sums.files(), files.into());
        assert_eq!(sums.manifest(), Some(manifest.as_str()));

        assert_eq!(sums.includes(&release(&[("linux_amd64", "ab")])), Ok(()));
        let missing = sums.includes(&release(&[("linux_arm", "ab"), ("linux_386", "ab")]));
        assert_eq!(
            missing.unwrap_err().to_string(),
            "`SHA256SUMS` has no line for published platforms: `linux_386`, `linux_arm`"
        );
        let different = sums.includes(&release(&[("linux_386", "ab"), ("linux_amd64", "cd")]));
        assert_eq!(different, Err(NotIncluded::Different("linux_amd64".parse().unwrap())));
    }
}
