//! The link an archive is fetched by: signed, expiring, good for one archive; clients send no token with it.

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use stile_protocol::audience::Audience;

use super::Format;
use crate::token::{DerivedKeys, KeyId};

/// How long a link is good for, in seconds: clients start the download at once, and print the whole link when it fails.
pub const LIFETIME: i64 = 300;

/// The path under which archives are served.
pub const PREFIX: &str = "/v1/archives/";

/// What a link gives: one archive, until a time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedUrl {
    /// Lower-case hex SHA-256 of the archive.
    pub sha256: String,
    /// What kind of archive it is.
    pub format: Format,
    /// When it ends, Unix seconds.
    pub expires_at: i64,
}

/// Why a link gives nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SignedUrlError {
    /// Not a link this registry made.
    #[error("the link is not one of this registry's")]
    Invalid,
    /// Its time is over.
    #[error("the link has expired; ask for the download again")]
    Expired,
}

impl SignedUrl {
    /// The purpose for which the signing key is derived: never a token's key itself, so that neither can be turned
    /// into the other.
    pub fn purpose(audience: &Audience) -> Vec<u8> {
        [b"stile-archive-link\0", audience.as_str().as_bytes()].concat()
    }

    /// The location: an absolute path that clients resolve against this server.
    ///
    /// `checksum` is for the client, which takes it off, and checks the archive with it before unpacking.
    pub fn to_location(&self, keys: &DerivedKeys) -> Option<String> {
        let signature = hex::encode(self.mac(keys, &keys.current)?.finalize().into_bytes());
        Some(format!(
            "{PREFIX}{sha256}.{extension}?checksum=sha256:{sha256}&expires={expires}&kid={kid}&signature={signature}",
            sha256 = self.sha256,
            extension = self.format.extension(),
            expires = self.expires_at,
            kid = keys.current.as_str(),
        ))
    }

    /// Reads a link's file name and query; the client's own parameters beside ours are ignored, twins of ours are not.
    pub fn open(
        file: &str,
        query: &str,
        keys: &DerivedKeys,
        now: i64,
    ) -> Result<Self, SignedUrlError> {
        let (sha256, extension) = file.split_once('.').ok_or(SignedUrlError::Invalid)?;
        let format = Format::from_extension(extension).ok_or(SignedUrlError::Invalid)?;
        let hex =
            sha256.len() == 64 && sha256.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        let expires_at = one(query, "expires")?.parse().map_err(|_| SignedUrlError::Invalid)?;
        let key_id = KeyId::parse(one(query, "kid")?).ok_or(SignedUrlError::Invalid)?;
        let signature =
            hex::decode(one(query, "signature")?).map_err(|_| SignedUrlError::Invalid)?;
        if !hex {
            return Err(SignedUrlError::Invalid);
        }
        let link = Self { sha256: sha256.to_owned(), format, expires_at };
        link.mac(keys, &key_id)
            .ok_or(SignedUrlError::Invalid)?
            .verify_slice(&signature)
            .map_err(|_| SignedUrlError::Invalid)?;
        if now >= expires_at { Err(SignedUrlError::Expired) } else { Ok(link) }
    }

    fn mac(&self, keys: &DerivedKeys, id: &KeyId) -> Option<Hmac<Sha256>> {
        let mut mac = Hmac::<Sha256>::new_from_slice(&**keys.keys.get(id)?).ok()?;
        mac.update(
            format!("{}\n{}\n{}", self.sha256, self.format.extension(), self.expires_at).as_bytes(),
        );
        Some(mac)
    }
}

fn one<'a>(query: &'a str, name: &str) -> Result<&'a str, SignedUrlError> {
    let mut found =
        query.split('&').filter_map(|pair| pair.split_once('=')).filter(|(key, _)| *key == name);
    match (found.next(), found.next()) {
        (Some((_, value)), None) => Ok(value),
        _ => Err(SignedUrlError::Invalid),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::token::Key;

    fn keys_of_a_registry() -> DerivedKeys {
        let (old, new) = (Key::random(0, 0).unwrap(), Key::random(1, 1).unwrap());
        let purpose = SignedUrl::purpose(&Audience::parse("registry.example.com").unwrap());
        DerivedKeys {
            current: new.id().clone(),
            keys: [&old, &new].map(|key| (key.id().clone(), key.derive(&purpose))).into(),
        }
    }

    fn parts(location: &str) -> (String, String) {
        let (path, query) = location.split_once('?').unwrap();
        (path.strip_prefix(PREFIX).unwrap().to_owned(), query.to_owned())
    }

    #[test]
    fn a_link_gives_the_archive_it_was_made_for_until_it_expires() {
        let keys = keys_of_a_registry();
        let link = SignedUrl { sha256: "ab".repeat(32), format: Format::Zip, expires_at: 1000 };
        let (file, query) = parts(&link.to_location(&keys).unwrap());
        assert!(file.ends_with(".zip"));
        assert_eq!(SignedUrl::open(&file, &query, &keys, 999), Ok(link.clone()));
        assert_eq!(SignedUrl::open(&file, &query, &keys, 1000), Err(SignedUrlError::Expired));
        let without_checksum: Vec<_> =
            query.split('&').filter(|pair| !pair.starts_with("checksum")).rev().collect();
        assert_eq!(
            SignedUrl::open(&file, &without_checksum.join("&"), &keys, 999),
            Ok(link),
            "clients sort the query and take the checksum off"
        );
    }

    #[test]
    fn a_changed_link_gives_nothing() {
        let keys = keys_of_a_registry();
        let link = SignedUrl { sha256: "ab".repeat(32), format: Format::Zip, expires_at: 1000 };
        let (file, query) = parts(&link.to_location(&keys).unwrap());
        for (file, query) in [
            (file.replace("abab", "abac"), query.clone()),
            (file.replace(".zip", ".tar.gz"), query.clone()),
            (file.replace(".zip", ".zip/.."), query.clone()),
            (file.to_uppercase(), query.clone()),
            (file.clone(), query.replace("expires=1000", "expires=9999999999")),
            (file.clone(), format!("{query}&expires=9999999999")),
            (file.clone(), query.replace("signature=", "signature=00")),
            (file.clone(), query.split("&signature").next().unwrap().to_owned()),
            (file.clone(), query.replace("kid=", "kid=A")),
            (file.clone(), String::new()),
        ] {
            assert_eq!(
                SignedUrl::open(&file, &query, &keys, 0),
                Err(SignedUrlError::Invalid),
                "{file} {query}"
            );
        }
        let strangers = keys_of_a_registry();
        assert_eq!(SignedUrl::open(&file, &query, &strangers, 0), Err(SignedUrlError::Invalid));
    }
}
