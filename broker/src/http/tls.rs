//! The TLS certificate of the server: reads it from its files, and says what is wrong with it.

use std::error::Error;
use std::fmt;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use rustls::client::{verify_server_cert_signed_by_trust_anchor, verify_server_name};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, RootCertStore, ServerConfig};
use sha2::{Digest, Sha256};
use stile_core::clock::rfc3339;
use stile_protocol::audience::Audience;
use tokio_rustls::TlsAcceptor;

use crate::config::TlsFiles;

/// The time before the end of a certificate in which the broker warns, in seconds: 21 days.
const WARNING_TIME: i64 = 21 * 24 * 3600;

/// The reason why the server cannot use the files of a certificate.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read.
    #[error("cannot read `{0}`")]
    Unreadable(String, #[source] std::io::Error),
    /// A file does not contain PEM.
    #[error("`{0}` is not a PEM file with a certificate chain or a private key")]
    Pem(String, #[source] rustls::pki_types::pem::Error),
    /// The file has no certificate.
    #[error("`{0}` has no certificate")]
    NoCertificate(String),
    /// The first certificate of the file is damaged.
    #[error("cannot read the first certificate of `{0}`")]
    Damaged(String),
    /// The key is of another certificate.
    #[error(
        "the key in `{key}` does not belong to the certificate in `{cert}`; hint: use the two files of one renewal, with the server's certificate first"
    )]
    OtherKey {
        /// The file of the certificate.
        cert: String,
        /// The file of the key.
        key: String,
    },
    /// TLS does not accept the certificate and the key.
    #[error("cannot use the certificate and the key for TLS")]
    Tls(#[source] rustls::Error),
    /// Every user of the machine can access the key.
    #[error("every user of this machine can access `{0}`; hint: run `chmod 600 {0}`")]
    Exposed(String),
    /// Clients reject the certificate.
    #[error("clients reject the certificate in `{0}`")]
    Rejected(String, #[source] CertificateProblem),
}

/// The reason why clients reject a certificate.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CertificateProblem {
    /// The certificate is expired.
    #[error("it ended on {0}; hint: renew it")]
    Ended(String),
    /// The certificate is not valid yet.
    #[error("it is not valid before {0}; hint: check the clock of this machine")]
    NotYetValid(String),
    /// The certificate is for other hosts.
    #[error("it does not cover registry host `{host}`, but {names}; hint: get one for `{host}`")]
    OtherHost {
        /// The host name of the registry.
        host: String,
        /// The names that the certificate covers.
        names: String,
    },
}

/// The content of the two files at one time.
pub(super) struct Contents {
    cert: Vec<u8>,
    key: Vec<u8>,
}

impl Contents {
    /// Reads the files, and rejects a private key that every user of the machine can access.
    pub(super) fn read(files: &TlsFiles) -> Result<Self, TlsError> {
        let read = |path: &Path| {
            fs::read(path).map_err(|error| TlsError::Unreadable(path.display().to_string(), error))
        };
        match fs::metadata(&files.key) {
            Ok(metadata) if metadata.permissions().mode() & 0o007 != 0 => {
                Err(TlsError::Exposed(files.key.display().to_string()))
            }
            _ => Ok(Self { cert: read(&files.cert)?, key: read(&files.key)? }),
        }
    }

    /// Returns a digest of both files, which is different after each change.
    pub(super) fn digest(&self) -> [u8; 32] {
        let mut digest = Sha256::new();
        digest.update(Sha256::digest(&self.cert));
        digest.update(Sha256::digest(&self.key));
        digest.finalize().into()
    }
}

/// A certificate chain with its private key, ready for TLS.
pub struct Certificate {
    config: Arc<ServerConfig>,
    end_entity: CertificateDer<'static>,
    validity: Validity,
    digest: [u8; 32],
}

/// The first and the last second in which a certificate is valid, in Unix seconds.
#[derive(Debug, Clone, Copy)]
struct Validity {
    starts_at: i64,
    ends_at: i64,
}

impl fmt::Debug for Certificate {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Certificate")
            .field("validity", &self.validity)
            .finish_non_exhaustive()
    }
}

impl Certificate {
    /// Reads the certificate chain and its private key.
    pub fn read(files: &TlsFiles) -> Result<Self, TlsError> {
        Self::parse(files, &Contents::read(files)?)
    }

    /// Parses the content of the files. The paths are only for errors.
    pub(super) fn parse(files: &TlsFiles, contents: &Contents) -> Result<Self, TlsError> {
        let (cert, key) = (files.cert.display().to_string(), files.key.display().to_string());
        let chain = CertificateDer::pem_slice_iter(&contents.cert)
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| TlsError::Pem(cert.clone(), error))?;
        let end_entity =
            chain.first().cloned().ok_or_else(|| TlsError::NoCertificate(cert.clone()))?;
        let validity = Validity::of(&end_entity).ok_or_else(|| TlsError::Damaged(cert.clone()))?;
        let private_key = PrivateKeyDer::from_pem_slice(&contents.key)
            .map_err(|error| TlsError::Pem(key.clone(), error))?;
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .and_then(|builder| builder.with_no_client_auth().with_single_cert(chain, private_key))
            .map_err(|error| match error {
                rustls::Error::InconsistentKeys(_) => TlsError::OtherKey { cert, key },
                error => TlsError::Tls(error),
            })?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Self { config: Arc::new(config), end_entity, validity, digest: contents.digest() })
    }

    /// Returns the last second in which the certificate is valid, in Unix seconds.
    pub const fn ends_at(&self) -> i64 {
        self.validity.ends_at
    }

    /// Returns whether the certificate ends within 21 days.
    pub const fn ends_soon(&self, now: i64) -> bool {
        now > self.validity.ends_at - WARNING_TIME
    }

    /// Returns the reason why clients reject the certificate now, if there is one. Without a host,
    /// it does not check the names.
    pub fn problem(&self, host: Option<&Audience>, now: i64) -> Option<CertificateProblem> {
        if now > self.validity.ends_at {
            return Some(CertificateProblem::Ended(rfc3339(self.validity.ends_at)));
        }
        if now < self.validity.starts_at {
            return Some(CertificateProblem::NotYetValid(rfc3339(self.validity.starts_at)));
        }
        self.missing_name(host?)
    }

    /// Returns a problem if the certificate does not cover the host.
    fn missing_name(&self, host: &Audience) -> Option<CertificateProblem> {
        let name = ServerName::try_from(host.host()).ok()?;
        let certificate = ParsedCertificate::try_from(&self.end_entity).ok()?;
        let names = match verify_server_name(&certificate, &name) {
            Ok(()) => return None,
            Err(rustls::Error::InvalidCertificate(CertificateError::NotValidForNameContext {
                presented,
                ..
            })) => presented,
            Err(_) => Vec::new(),
        };
        let names: Vec<_> = names.iter().map(|name| format!("`{}`", bare(name))).collect();
        let names = if names.is_empty() { "no name".to_owned() } else { names.join(", ") };
        Some(CertificateProblem::OtherHost { host: host.host().to_owned(), names })
    }

    /// Logs that the certificate is in service and when it ends, and warns of problems.
    pub fn log(&self, done: &str, files: &TlsFiles, host: &Audience, now: i64) {
        let (certificate, ends) = (files.cert.display(), rfc3339(self.ends_at()));
        match self.problem(Some(host), now) {
            Some(problem) => tracing::warn!(
                %certificate,
                %ends,
                error = &problem as &dyn Error,
                "{done} the TLS certificate, which clients reject"
            ),
            None if self.ends_soon(now) => {
                tracing::warn!(%certificate, %ends, "{done} the TLS certificate, which ends soon");
            }
            None => tracing::info!(%certificate, %ends, "{done} the TLS certificate"),
        }
    }

    /// Returns the digest of the files that the certificate is from.
    pub(super) const fn digest(&self) -> [u8; 32] {
        self.digest
    }
}

impl Validity {
    /// Reads the times of a certificate. Returns `None` if it is damaged.
    ///
    /// A verification at a time that is too early or too late fails, and names the limit. The times
    /// are the first thing that it tests, so it needs no root certificates.
    fn of(certificate: &CertificateDer<'_>) -> Option<Self> {
        let certificate = ParsedCertificate::try_from(certificate).ok()?;
        let verify_at = |seconds| {
            let time = UnixTime::since_unix_epoch(Duration::from_secs(seconds));
            let without_roots = RootCertStore::empty();
            match verify_server_cert_signed_by_trust_anchor(
                &certificate,
                &without_roots,
                &[],
                time,
                &[],
            ) {
                Err(rustls::Error::InvalidCertificate(error)) => Some(error),
                _ => None,
            }
        };
        let starts_at = match verify_at(0) {
            Some(CertificateError::NotValidYetContext { not_before, .. }) => not_before.as_secs(),
            _ => 0,
        };
        let Some(CertificateError::ExpiredContext { not_after, .. }) = verify_at(u64::MAX) else {
            return None;
        };
        Some(Self {
            starts_at: starts_at.try_into().ok()?,
            ends_at: not_after.as_secs().try_into().ok()?,
        })
    }
}

/// Returns a name of a certificate without the kind, as in `DnsName("registry.example.com")`.
fn bare(name: &str) -> &str {
    let inner = name.split_once('(').and_then(|(_, rest)| rest.strip_suffix(')'));
    inner.unwrap_or(name).trim_matches('"')
}

/// The certificate that the server uses for new connections. Clones share it.
#[derive(Clone)]
pub struct Tls(Arc<RwLock<Arc<Certificate>>>);

impl Tls {
    /// Begins with this certificate.
    pub fn new(certificate: Certificate) -> Self {
        Self(Arc::new(RwLock::new(Arc::new(certificate))))
    }

    /// Returns the certificate in service.
    pub fn certificate(&self) -> Arc<Certificate> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Uses another certificate for new connections. Open connections continue with theirs.
    pub(super) fn replace(&self, certificate: Certificate) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(certificate);
    }

    /// Returns the acceptor of one connection.
    pub(super) fn acceptor(&self) -> TlsAcceptor {
        TlsAcceptor::from(Arc::clone(&self.certificate().config))
    }
}
