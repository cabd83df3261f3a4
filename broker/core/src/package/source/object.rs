//! The address of an object in an S3 bucket, in its only spelling.

use std::fmt;
use std::net::Ipv4Addr;

use super::location::SourceError;

/// The beginning of every address.
pub(super) const SCHEME: &str = "s3://";

/// The maximum length of a key in bytes (Amazon S3, "Naming Amazon S3 objects").
const MAX_KEY: usize = 1024;

/// The beginnings of names that Amazon S3 gives to no general purpose bucket.
const RESERVED_STARTS: [&str; 3] = ["xn--", "sthree-", "amzn-s3-demo-"];

/// The ends of such names. They belong to access points and to other kinds of buckets (Amazon S3,
/// "General purpose bucket naming rules").
const RESERVED_ENDS: [&str; 5] = ["-s3alias", "--ol-s3", ".mrap", "--x-s3", "--table-s3"];

/// The address of one object: `s3://BUCKET/KEY`.
///
/// The grammar accepts fewer keys than S3 does. A key is text that every client, proxy and policy
/// reads in the same way, and is never percent-decoded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectAddress {
    text: String,
    /// The length of the text before the `/` after the bucket.
    bucket: usize,
}

impl ObjectAddress {
    /// Parses an address.
    ///
    /// # Errors
    ///
    /// [`SourceError`], if the bucket is not the name of a general purpose bucket, or if the key has
    /// another spelling.
    pub fn parse(text: &str) -> Result<Self, SourceError> {
        let (bucket, key) = split(text)?;
        if key.is_empty() {
            return Err(SourceError::new("it must have a key after its bucket"));
        }
        check_key(key)?;
        Ok(Self { text: text.to_owned(), bucket: SCHEME.len() + bucket.len() })
    }

    /// Returns the name of the bucket.
    pub fn bucket(&self) -> &str {
        &self.text[SCHEME.len()..self.bucket]
    }

    /// Returns the key of the object.
    pub fn key(&self) -> &str {
        &self.text[self.bucket + 1..]
    }

    /// Returns the address, as the publisher wrote it.
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

impl fmt::Display for ObjectAddress {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.text)
    }
}

/// Splits an address into the bucket, which it checks, and what follows its `/`.
pub(super) fn split(text: &str) -> Result<(&str, &str), SourceError> {
    let rest = text
        .strip_prefix(SCHEME)
        .ok_or_else(|| SourceError::new(format_args!("it must begin with `{SCHEME}`")))?;
    let (bucket, rest) = rest
        .split_once('/')
        .ok_or_else(|| SourceError::new("it must have a `/` after its bucket"))?;
    if !is_bucket(bucket) {
        return Err(SourceError::new(
            "its bucket must be the name of a general purpose bucket, and not an ARN or an access \
             point: 3 to 63 lower-case letters, digits, dots and dashes",
        ));
    }
    Ok((bucket, rest))
}

fn is_bucket(name: &str) -> bool {
    let is_label = |label: &str| {
        !label.is_empty()
            && label.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    (3..=63).contains(&name.len())
        && name.split('.').all(is_label)
        && name.parse::<Ipv4Addr>().is_err()
        && !RESERVED_STARTS.iter().any(|start| name.starts_with(start))
        && !RESERVED_ENDS.iter().any(|end| name.ends_with(end))
}

/// Checks a key, or a prefix of keys.
pub(super) fn check_key(key: &str) -> Result<(), SourceError> {
    if key.len() > MAX_KEY {
        return Err(SourceError::new(format_args!("its key is longer than {MAX_KEY} bytes")));
    }
    let is_accepted = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~+=@,:".contains(&byte);
    for segment in key.split('/') {
        if segment.is_empty() {
            return Err(SourceError::new("its key must have no empty part"));
        }
        if matches!(segment, "." | "..") {
            return Err(SourceError::new("its key must not have the parts `.` and `..`"));
        }
        if !segment.bytes().all(is_accepted) {
            return Err(SourceError::new(
                "its key must have only ASCII letters, digits and the characters `-._~+=@,:/`, \
                 and is not percent-encoded",
            ));
        }
    }
    Ok(())
}
