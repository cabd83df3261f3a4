//! The parts that a source and the operator's list have in common: how to fetch, the host, and the
//! path.

use std::fmt;
use std::net::Ipv4Addr;

/// The reason why a text is not a source. It contains nothing of the text, which can be a secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct SourceError(String);

impl SourceError {
    pub(super) fn new(problem: impl fmt::Display) -> Self {
        Self(problem.to_string())
    }
}

/// The maximum length of a source in bytes.
pub(super) const MAX_LENGTH: usize = 512;

/// The only user name in a source. Git servers have it for everyone who uses a key.
const GIT_USER: &str = "git";

/// How a client fetches a source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Getter {
    GitHttps,
    GitSsh,
    Https,
    S3,
}

impl Getter {
    const ALL: [Self; 4] = [Self::GitHttps, Self::GitSsh, Self::Https, Self::S3];

    /// Returns the beginning of a source, up to its host.
    const fn prefix(self) -> &'static str {
        match self {
            Self::GitHttps => "git::https://",
            Self::GitSsh => "git::ssh://",
            Self::Https => "https://",
            Self::S3 => "s3::https://",
        }
    }

    const fn default_port(self) -> u16 {
        match self {
            Self::GitSsh => 22,
            Self::GitHttps | Self::Https | Self::S3 => 443,
        }
    }

    /// Returns whether the source is a repository. Otherwise, it is an archive.
    pub(super) const fn is_git(self) -> bool {
        matches!(self, Self::GitHttps | Self::GitSsh)
    }
}

/// Splits a text into the way to fetch it, and its path without the first `/`. It checks the host.
pub(super) fn split(text: &str) -> Result<(Getter, &str), SourceError> {
    check_characters(text)?;
    let found = Getter::ALL
        .into_iter()
        .find_map(|getter| Some((getter, text.strip_prefix(getter.prefix())?)));
    let Some((getter, rest)) = found else {
        let prefixes = Getter::ALL.map(|getter| format!("`{}`", getter.prefix())).join(", ");
        return Err(SourceError::new(format_args!("it must begin with one of {prefixes}")));
    };
    let (authority, path) = rest
        .split_once('/')
        .ok_or_else(|| SourceError::new("it must have a `/` and a path after its host"))?;
    check_authority(getter, authority)?;
    Ok((getter, path))
}

fn check_characters(text: &str) -> Result<(), SourceError> {
    if text.len() > MAX_LENGTH {
        return Err(SourceError::new(format_args!("it is longer than {MAX_LENGTH} bytes")));
    }
    if text.contains('%') {
        return Err(SourceError::new("it must not have percent-encoded characters"));
    }
    let is_accepted = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~/:@?&=".contains(&byte);
    if !text.bytes().all(is_accepted) {
        return Err(SourceError::new(
            "it must have only ASCII letters, digits and the characters `-._~/:@?&=`",
        ));
    }
    Ok(())
}

fn check_authority(getter: Getter, authority: &str) -> Result<(), SourceError> {
    let server = match authority.split_once('@') {
        None => authority,
        Some((GIT_USER, server)) if getter == Getter::GitSsh => server,
        Some(_) if getter == Getter::GitSsh => {
            return Err(SourceError::new("it must have no user other than `git`, and no password"));
        }
        Some(_) => return Err(SourceError::new("it must have no user and no password")),
    };
    let (host, port) = match server.split_once(':') {
        None => (server, None),
        Some((host, port)) => (host, Some(port)),
    };
    if !is_host(host) {
        return Err(SourceError::new(
            "its host must be a name or an IPv4 address in lower case, without a dot at the end",
        ));
    }
    let is_port = |port: &str| {
        let number: Option<u16> = port.parse().ok();
        number.is_some_and(|number| {
            number != 0 && number != getter.default_port() && number.to_string() == port
        })
    };
    if port.is_some_and(|port| !is_port(port)) {
        return Err(SourceError::new(format_args!(
            "after the `:` of its host, there must be a port other than the default port {}",
            getter.default_port()
        )));
    }
    Ok(())
}

fn is_host(host: &str) -> bool {
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    // Some programs read `0x7f.1` and `2130706433` as an IPv4 address.
    let last = host.rsplit('.').next().unwrap_or_default();
    let is_number = last.bytes().all(|b| b.is_ascii_digit()) || last.starts_with("0x");
    let is_address = || host.parse::<Ipv4Addr>().is_ok_and(|address| address.to_string() == host);
    host.len() <= 253 && host.split('.').all(is_label) && (!is_number || is_address())
}

/// Checks the segments of a path. A server and a client can disagree about what `..` or an empty
/// segment means.
pub(super) fn check_path(path: &str) -> Result<(), SourceError> {
    let is_accepted = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    for segment in path.split('/') {
        if segment.is_empty() {
            return Err(SourceError::new("its path must have no empty part, except one `//`"));
        }
        if matches!(segment, "." | "..") {
            return Err(SourceError::new("its path must not have the parts `.` and `..`"));
        }
        if !segment.bytes().all(is_accepted) {
            return Err(SourceError::new(
                "its path must have only ASCII letters, digits and the characters `-._~/`",
            ));
        }
    }
    Ok(())
}
