//! Signed URLs for archive downloads. Each is valid for one archive and a short time.
//!
//! Clients send no token to a download URL, so the signature is the only authorisation.

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use stile_protocol::audience::Audience;
use stile_protocol::names::ProviderAddress;

use super::provider::{signature_name, sums_name};
use super::{Format, Version};
use crate::token::{DerivedKeys, KeyId};

/// Lifetime of a signed URL in seconds.
///
/// It is short because clients print the whole URL when a download fails, so it can leak into logs.
/// Clients start the download at once.
pub const LIFETIME: i64 = 300;

/// The path prefix of archive downloads.
pub const PREFIX: &str = "/v1/archives/";

/// The content of a signed URL: the right to download one archive until the expiry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedUrl {
    /// SHA-256 of the archive, in lower-case hex.
    pub sha256: String,
    /// The format of the archive.
    pub format: Format,
    /// Expiry in Unix seconds.
    pub expires_at: i64,
}

/// The reason why a signed URL is not valid.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SignedUrlError {
    /// This registry did not sign the URL.
    #[error("this registry did not sign the download URL")]
    Invalid,
    /// The URL has expired.
    #[error("the download URL has expired; request the download again")]
    Expired,
}

impl SignedUrl {
    /// Returns the purpose for [`Key::derive`](crate::token::Key::derive).
    ///
    /// A derived key signs URLs, never the key of tokens, so nobody can turn a URL signature into a
    /// token. The audience in the purpose prevents the use of a URL at another registry.
    pub fn purpose(audience: &Audience) -> Vec<u8> {
        [b"stile-archive-link\0", audience.as_str().as_bytes()].concat()
    }

    /// Returns the signed URL without scheme and host: an absolute path of this server.
    ///
    /// The parameter `checksum` is for the client, which removes it from the request. The client
    /// verifies the archive with it before it unpacks the archive.
    ///
    /// `None`, if `keys` has no current key.
    pub fn to_location(&self, keys: &DerivedKeys) -> Option<String> {
        let signature =
            hex::encode(mac(keys, &keys.current, &self.message())?.finalize().into_bytes());
        Some(format!(
            "{PREFIX}{sha256}.{extension}?checksum=sha256:{sha256}&expires={expires}&kid={kid}&signature={signature}",
            sha256 = self.sha256,
            extension = self.format.extension(),
            expires = self.expires_at,
            kid = keys.current.as_str(),
        ))
    }

    /// Verifies the file name and the query of a signed URL.
    ///
    /// It ignores unknown query parameters, because clients add some. It rejects repeated parameters of
    /// its own, because two readers could choose different values.
    ///
    /// # Errors
    ///
    /// [`SignedUrlError`], if the signature is invalid or the URL has expired.
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
        let signed = Signed::parse(query)?;
        if !hex {
            return Err(SignedUrlError::Invalid);
        }
        let url = Self { sha256: sha256.to_owned(), format, expires_at: signed.expires_at };
        signed.verify(keys, &url.message(), now)?;
        Ok(url)
    }

    fn message(&self) -> String {
        format!("{}\n{}\n{}", self.sha256, self.format.extension(), self.expires_at)
    }
}

/// The path prefix of the signed lists of digests of providers.
pub const PROVIDER_PREFIX: &str = "/v1/providers-files/";

/// One of the two small files of a provider's version, which the records have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProviderText {
    /// The list of digests.
    Sums,
    /// The signature of the list.
    Signature,
}

/// The content of a signed URL: the right to download the list of digests of a version, or its
/// signature, until the expiry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedProviderText {
    /// The provider.
    pub address: ProviderAddress,
    /// The version.
    pub version: Version,
    /// Which of the files.
    pub text: ProviderText,
    /// [`SignedSums::digest`](super::provider::SignedSums::digest) of the list and its signature. A client
    /// asks for both one after the other, and must not get the list of one and the signature of another.
    pub digest: String,
    /// Expiry in Unix seconds.
    pub expires_at: i64,
}

impl SignedProviderText {
    /// Returns the signed URL without scheme and host: an absolute path of this server.
    ///
    /// `keys` are those of [`SignedUrl::purpose`]. What they sign here begins with another word, so a
    /// signature for an archive is not valid. `None`, if `keys` has no current key.
    pub fn to_location(&self, keys: &DerivedKeys) -> Option<String> {
        let mac = mac(keys, &keys.current, &self.message())?;
        Some(format!(
            "{PROVIDER_PREFIX}{}/{}/{}?digest={}&expires={}&kid={}&signature={}",
            self.address,
            self.version,
            self.file_name(),
            self.digest,
            self.expires_at,
            keys.current.as_str(),
            hex::encode(mac.finalize().into_bytes()),
        ))
    }

    /// Verifies the parts of the path of a signed URL, and its query, as [`SignedUrl::open`] does.
    ///
    /// # Errors
    ///
    /// [`SignedUrlError`], if the signature is invalid or the URL has expired.
    pub fn open(
        address: &str,
        version: &str,
        file: &str,
        query: &str,
        keys: &DerivedKeys,
        now: i64,
    ) -> Result<Self, SignedUrlError> {
        let signed = Signed::parse(query)?;
        let mut url = Self {
            address: address.parse().map_err(|_| SignedUrlError::Invalid)?,
            version: Version::parse(version).map_err(|_| SignedUrlError::Invalid)?,
            text: ProviderText::Sums,
            digest: unique_parameter(query, "digest")?.to_owned(),
            expires_at: signed.expires_at,
        };
        if url.file_name() != file {
            url.text = ProviderText::Signature;
        }
        if url.file_name() != file {
            return Err(SignedUrlError::Invalid);
        }
        signed.verify(keys, &url.message(), now)?;
        Ok(url)
    }

    fn file_name(&self) -> String {
        let of = &self.address.provider_type;
        match self.text {
            ProviderText::Sums => sums_name(of, &self.version),
            ProviderText::Signature => signature_name(of, &self.version),
        }
    }

    fn message(&self) -> String {
        let Self { address, version, digest, expires_at, .. } = self;
        format!("provider\n{address}\n{version}\n{}\n{digest}\n{expires_at}", self.file_name())
    }
}

/// The signature in the query of a signed URL.
struct Signed {
    expires_at: i64,
    key_id: KeyId,
    signature: Vec<u8>,
}

impl Signed {
    fn parse(query: &str) -> Result<Self, SignedUrlError> {
        let invalid = || SignedUrlError::Invalid;
        Ok(Self {
            expires_at: unique_parameter(query, "expires")?.parse().map_err(|_| invalid())?,
            key_id: KeyId::parse(unique_parameter(query, "kid")?).ok_or_else(invalid)?,
            signature: hex::decode(unique_parameter(query, "signature")?).map_err(|_| invalid())?,
        })
    }

    fn verify(&self, keys: &DerivedKeys, message: &str, now: i64) -> Result<(), SignedUrlError> {
        mac(keys, &self.key_id, message)
            .ok_or(SignedUrlError::Invalid)?
            .verify_slice(&self.signature)
            .map_err(|_| SignedUrlError::Invalid)?;
        if now >= self.expires_at { Err(SignedUrlError::Expired) } else { Ok(()) }
    }
}

fn mac(keys: &DerivedKeys, id: &KeyId, message: &str) -> Option<Hmac<Sha256>> {
    let mut mac = Hmac::<Sha256>::new_from_slice(&**keys.keys.get(id)?).ok()?;
    mac.update(message.as_bytes());
    Some(mac)
}

/// Returns the value of a parameter that must appear exactly once.
fn unique_parameter<'a>(query: &'a str, name: &str) -> Result<&'a str, SignedUrlError> {
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
    fn a_signed_url_is_valid_for_its_archive_until_it_expires() {
        let keys = keys_of_a_registry();
        let url = SignedUrl { sha256: "ab".repeat(32), format: Format::Zip, expires_at: 1000 };
        let (file, query) = parts(&url.to_location(&keys).unwrap());
        assert!(file.ends_with(".zip"));
        assert_eq!(SignedUrl::open(&file, &query, &keys, 999), Ok(url.clone()));
        assert_eq!(SignedUrl::open(&file, &query, &keys, 1000), Err(SignedUrlError::Expired));
        let without_checksum: Vec<_> =
            query.split('&').filter(|pair| !pair.starts_with("checksum")).rev().collect();
        assert_eq!(
            SignedUrl::open(&file, &without_checksum.join("&"), &keys, 999),
            Ok(url),
            "clients sort the query and remove the checksum"
        );
    }

    #[test]
    fn a_signed_url_of_a_list_is_valid_for_this_list_and_its_signature_only() {
        let keys = keys_of_a_registry();
        let url = SignedProviderText {
            address: "acme/dns".parse().unwrap(),
            version: Version::parse("1.0.0").unwrap(),
            text: ProviderText::Signature,
            digest: "ab".repeat(32),
            expires_at: 1000,
        };
        let location = url.to_location(&keys).unwrap();
        let (path, query) = location.split_once('?').unwrap();
        let file = path.rsplit('/').next().unwrap();
        let open =
            |query: &str| SignedProviderText::open("acme/dns", "1.0.0", file, query, &keys, 9);
        assert_eq!(open(query), Ok(url));
        for other in [query.replace("abab", "abac"), query.replace("digest=", "x=")] {
            assert_eq!(open(&other), Err(SignedUrlError::Invalid), "{other}");
        }
    }

    #[test]
    fn a_changed_signed_url_is_invalid() {
        let keys = keys_of_a_registry();
        let url = SignedUrl { sha256: "ab".repeat(32), format: Format::Zip, expires_at: 1000 };
        let (file, query) = parts(&url.to_location(&keys).unwrap());
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
        let foreign = keys_of_a_registry();
        assert_eq!(SignedUrl::open(&file, &query, &foreign, 0), Err(SignedUrlError::Invalid));
    }
}
