//! GnuPG in a home of its own: it makes the keys and signatures of publishers, and verifies what
//! the registry serves.
//!
//! The broker reads both with another library, so the two have no mistake in common.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use tempfile::TempDir;

use crate::skipped::{search_path, skipped, tool};

/// A home of GnuPG. Dropping it ends its agent.
#[derive(Debug)]
pub struct GnuPg {
    program: PathBuf,
    home: TempDir,
    /// The time of its clock, in Unix seconds.
    now: i64,
}

/// A key with its private half, which signs for a publisher.
#[derive(Debug)]
pub struct PublisherKey<'a> {
    gnupg: &'a GnuPg,
    /// The fingerprint: 40 upper-case hex digits.
    pub fingerprint: String,
    /// The public key as text.
    pub armor: String,
}

impl GnuPg {
    /// Creates an empty home, whose clock stands at that time.
    ///
    /// Without `gpg`, it records a skip and returns `None`.
    pub fn new(now: i64, shows: &str) -> Option<Self> {
        let Some(program) = tool("gpg") else {
            skipped("gpg", shows);
            return None;
        };
        Some(Self { program, home: tempfile::tempdir().unwrap(), now })
    }

    /// Makes an RSA key of 2048 bits for that user, which never expires.
    pub fn key(&self, user: &str) -> PublisherKey<'_> {
        self.key_with(user, "rsa2048", "never")
    }

    /// Makes a key of that algorithm, which expires after a time such as `1d`, or `never`.
    pub fn key_with(&self, user: &str, algorithm: &str, expires: &str) -> PublisherKey<'_> {
        let words = ["--quick-generate-key", user, algorithm, "sign", expires];
        self.done(
            &[&["--pinentry-mode", "loopback", "--passphrase", ""][..], &words].concat(),
            b"",
        );
        let exact = format!("={user}");
        let listed = self.done(&["--with-colons", "--list-keys", &exact], b"");
        let listed = String::from_utf8(listed).unwrap();
        let line = listed.lines().find(|line| line.starts_with("fpr:")).unwrap();
        let fingerprint = line.split(':').nth(9).unwrap().to_owned();
        let armor = self.done(&["--armor", "--export", &fingerprint], b"");
        PublisherKey { gnupg: self, fingerprint, armor: String::from_utf8(armor).unwrap() }
    }

    /// Imports public keys.
    pub fn import(&self, armor: &str) {
        self.done(&["--import"], armor.as_bytes());
    }

    /// Verifies a detached signature, as a consumer does. Returns whether it is good, and the output.
    pub fn verify(&self, data: &[u8], signature: &[u8]) -> (bool, String) {
        let file = self.home.path().join("verified.sig");
        std::fs::write(&file, signature).unwrap();
        let ran = self.run(&["--verify", file.to_str().unwrap(), "-"], data);
        (ran.status.success(), String::from_utf8_lossy(&ran.stderr).into_owned())
    }

    fn done(&self, arguments: &[&str], input: &[u8]) -> Vec<u8> {
        let ran = self.run(arguments, input);
        let says = String::from_utf8_lossy(&ran.stderr);
        assert!(ran.status.success(), "gpg {arguments:?}: {says}");
        ran.stdout
    }

    fn run(&self, arguments: &[&str], input: &[u8]) -> Output {
        let time = format!("{}!", self.now);
        let mut command = self.command(&self.program);
        command.args(["--batch", "--no-tty", "--faked-system-time", &time]).args(arguments);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        child.stdin.take().unwrap().write_all(input).unwrap();
        child.wait_with_output().unwrap()
    }

    fn command(&self, program: &std::path::Path) -> Command {
        let mut command = Command::new(program);
        command.env_clear().env("PATH", search_path()).env("GNUPGHOME", self.home.path());
        command
    }
}

impl Drop for GnuPg {
    fn drop(&mut self) {
        let mut gpgconf = self.command(&self.program.with_file_name("gpgconf"));
        let _ = gpgconf.args(["--kill", "all"]).stdin(Stdio::null()).output();
    }
}

impl PublisherKey<'_> {
    /// Returns the key id that Terraform shows: the last 16 digits of the fingerprint.
    pub fn id(&self) -> &str {
        &self.fingerprint[self.fingerprint.len() - 16..]
    }

    /// Makes a detached signature in binary.
    pub fn sign(&self, data: &[u8]) -> Vec<u8> {
        self.sign_with(data, &[])
    }

    /// Makes a detached signature with more arguments, for example `--digest-algo SHA1`.
    pub fn sign_with(&self, data: &[u8], more: &[&str]) -> Vec<u8> {
        let words = ["--pinentry-mode", "loopback", "--passphrase", ""];
        let sign = ["--local-user", self.fingerprint.as_str(), "--detach-sign"];
        self.gnupg.done(&[&words[..], more, &sign].concat(), data)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::NOW;

    #[test]
    fn a_signature_is_good_for_its_key_and_its_data_only() {
        let Some(gnupg) = GnuPg::new(NOW, "a signature of GnuPG") else { return };
        let key = gnupg.key("Acme <providers@acme.example>");
        assert_eq!((key.fingerprint.len(), key.id().len()), (40, 16));
        assert!(key.armor.starts_with("-----BEGIN PGP PUBLIC KEY BLOCK-----\n"), "{}", key.armor);
        let signature = key.sign(b"data");
        let Some(consumer) = GnuPg::new(NOW, "a signature of GnuPG") else { return };
        let (good, says) = consumer.verify(b"data", &signature);
        assert!(!good && says.contains("No public key"), "{says}");
        consumer.import(&key.armor);
        let (good, says) = consumer.verify(b"data", &signature);
        assert!(good && says.contains("Good signature from \"Acme <"), "{says}");
        let (good, says) = consumer.verify(b"other", &signature);
        assert!(!good && says.contains("BAD signature"), "{says}");
    }
}
