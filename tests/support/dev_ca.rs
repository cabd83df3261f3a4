//! Creates a certificate authority for one test, and its server certificates for loopback.
//!
//! The authority's key stays in memory. Go, Rust and the platform verifiers check key usages, so
//! the certificates have those of a public authority.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, KeyUsagePurpose, date_time_ymd,
};
use stile_broker::config::TlsFiles;
use stile_broker::http::{Certificate, Tls};

/// Certificates are valid from a day before until 30 days after `now`, because clocks differ. The
/// unit is seconds.
const BEFORE: u64 = 24 * 3600;
const AFTER: u64 = 30 * 24 * 3600;

/// A certificate authority.
#[derive(Debug)]
pub struct DevCa {
    issuer: CertifiedIssuer<'static, KeyPair>,
    now: u64,
}

/// A server certificate and its key, as PEM.
pub struct Leaf {
    /// The certificate.
    pub cert_pem: String,
    /// The key in PKCS #8, as PEM.
    pub key_pem: String,
}

/// The paths of the PEM files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Files {
    /// The authority's certificate, for `SSL_CERT_FILE`.
    pub ca: PathBuf,
    /// The server's certificate.
    pub cert: PathBuf,
    /// The server's key, with mode 0600.
    pub key: PathBuf,
}

impl Files {
    /// Returns the paths as the broker's configuration has them.
    pub fn of_broker(&self) -> TlsFiles {
        TlsFiles { cert: self.cert.clone(), key: self.key.clone() }
    }

    /// Returns the certificate and its key, for a server in this process.
    pub fn tls(&self) -> Tls {
        Tls::new(Certificate::read(&self.of_broker()).unwrap())
    }
}

impl DevCa {
    /// Creates an authority that is valid from the day before `now`, in Unix seconds, until 30 days
    /// after it.
    pub fn new(now: i64) -> Self {
        let now = u64::try_from(now).unwrap();
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "Stile development CA");
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![
            KeyUsagePurpose::KeyCertSign,
            KeyUsagePurpose::CrlSign,
            KeyUsagePurpose::DigitalSignature,
        ];
        set_validity(&mut params, now);
        Self {
            issuer: CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap(),
            now,
        }
    }

    /// Returns the authority's certificate, as PEM.
    pub fn pem(&self) -> String {
        self.issuer.pem()
    }

    /// Creates a server certificate for these DNS names and IP addresses.
    pub fn leaf(&self, names: &[&str]) -> Leaf {
        let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        params.distinguished_name.push(DnType::CommonName, "Stile development server");
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        set_validity(&mut params, self.now);
        let key = KeyPair::generate().unwrap();
        Leaf {
            cert_pem: params.signed_by(&key, &self.issuer).unwrap().pem(),
            key_pem: key.serialize_pem(),
        }
    }

    /// Creates a server certificate, and writes `ca.pem`, `cert.pem` and `key.pem` to the folder.
    pub fn write(&self, folder: &Path, names: &[&str]) -> Files {
        let leaf = self.leaf(names);
        let files = Files {
            ca: folder.join("ca.pem"),
            cert: folder.join("cert.pem"),
            key: folder.join("key.pem"),
        };
        for (path, text, mode) in [
            (&files.ca, &self.pem(), 0o644),
            (&files.cert, &leaf.cert_pem, 0o644),
            (&files.key, &leaf.key_pem, 0o600),
        ] {
            let _ = std::fs::remove_file(path);
            let mut file =
                OpenOptions::new().write(true).create_new(true).mode(mode).open(path).unwrap();
            file.write_all(text.as_bytes()).unwrap();
        }
        files
    }
}

impl std::fmt::Debug for Leaf {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Leaf").field("cert_pem", &self.cert_pem).finish_non_exhaustive()
    }
}

fn set_validity(params: &mut CertificateParams, now: u64) {
    let now = date_time_ymd(1970, 1, 1) + Duration::from_secs(now);
    params.not_before = now - Duration::from_secs(BEFORE);
    params.not_after = now + Duration::from_secs(AFTER);
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;
    use std::sync::Arc;

    use rustls::client::WebPkiServerVerifier;
    use rustls::client::danger::ServerCertVerifier as _;
    use rustls::pki_types::pem::PemObject as _;
    use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
    use rustls::{CertificateError, Error, RootCertStore};

    use super::*;

    const NOW: i64 = 1_795_169_472;
    const DAY: i64 = 24 * 3600;

    fn verify(ca_pem: &str, leaf: &Leaf, name: &str, now: i64) -> Result<(), Error> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(ca_pem.as_bytes()).unwrap()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let verifier =
            WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider).build().unwrap();
        let cert = CertificateDer::from_pem_slice(leaf.cert_pem.as_bytes()).unwrap();
        let at = UnixTime::since_unix_epoch(Duration::from_secs(now.unsigned_abs()));
        let name = ServerName::try_from(name.to_owned()).unwrap();
        verifier.verify_server_cert(&cert, &[], &name, &[], at).map(|_| ())
    }

    #[test]
    fn a_leaf_is_valid_for_its_names_and_its_time_only() {
        let ca = DevCa::new(NOW);
        let leaf = ca.leaf(&["127.0.0.1", "registry.example.com"]);
        for name in ["127.0.0.2", "evil.example.com", "::1"] {
            assert!(matches!(
                verify(&ca.pem(), &leaf, name, NOW),
                Err(Error::InvalidCertificate(CertificateError::NotValidForNameContext { .. }))
            ));
        }
        for now in [NOW - DAY - 1, NOW + 30 * DAY + 1] {
            assert!(verify(&ca.pem(), &leaf, "127.0.0.1", now).is_err(), "{now}");
        }
        assert!(
            verify(&DevCa::new(NOW).pem(), &leaf, "127.0.0.1", NOW).is_err(),
            "another authority"
        );
        for now in [NOW - DAY, NOW, NOW + 30 * DAY] {
            for name in ["127.0.0.1", "registry.example.com"] {
                verify(&ca.pem(), &leaf, name, now).unwrap();
            }
        }
    }

    #[test]
    fn only_the_owner_can_read_the_key() {
        let folder = tempfile::tempdir().unwrap();
        let ca = DevCa::new(NOW);
        ca.write(folder.path(), &["127.0.0.1"]);
        let files = ca.write(folder.path(), &["127.0.0.1"]);
        assert_eq!(files.key.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        assert!(
            std::fs::read_to_string(files.key).unwrap().starts_with("-----BEGIN PRIVATE KEY-----")
        );
        assert_eq!(std::fs::read_to_string(files.ca).unwrap(), ca.pem());
        assert!(!format!("{:?}", ca.leaf(&["127.0.0.1"])).contains("PRIVATE KEY"));
    }
}
