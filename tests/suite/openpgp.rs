//! GnuPG reads the signing keys that clients get.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Output};

use stile_core::package::provider::SigningKey;
use stile_tests::skipped::{search_path, skipped, tool};

/// 2026-03-01, after the fixtures were signed.
const NOW: i64 = 1_772_323_200;

#[test]
fn gnupg_verifies_with_each_key_as_clients_get_it() {
    let Some(gpg) = tool("gpg") else {
        return skipped("gpg", "that GnuPG reads the signing keys that clients get");
    };
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/openpgp");
    for name in ["rsa4096", "rsa2048", "p256", "ed25519", "subkey"] {
        let folder = tempfile::tempdir().unwrap();
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o700)).unwrap();
        let run = |arguments: &[&Path]| -> Output {
            Command::new(&gpg)
                .env_clear()
                .env("PATH", search_path())
                .arg("--homedir")
                .arg(folder.path())
                .args(["--batch", "--no-autostart", "--status-fd", "1"])
                .args(arguments)
                .output()
                .unwrap()
        };
        let armor = fs::read_to_string(fixtures.join(format!("{name}.asc"))).unwrap();
        let key = SigningKey::parse(&armor, NOW).unwrap();
        let written = folder.path().join("key.asc");
        fs::write(&written, key.armor()).unwrap();
        let imported = run(&[Path::new("--import"), &written]);
        assert!(imported.status.success(), "{name}: {imported:?}");

        let signature = fixtures.join(format!("{name}.sig"));
        let verified = run(&[Path::new("--verify"), &signature, &fixtures.join("SHA256SUMS")]);
        let status = String::from_utf8_lossy(&verified.stdout);
        let valid = status.lines().find(|line| line.contains("VALIDSIG")).unwrap_or_default();
        // The last word is the fingerprint of the primary key.
        assert!(valid.ends_with(&key.fingerprint()), "{name}: {verified:?}");
    }
}
