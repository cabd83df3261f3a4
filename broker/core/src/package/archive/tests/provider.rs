//! Tests of the inspection of the zip archives of providers.

use std::io::Write as _;
use std::time::Duration;

use stile_protocol::names::ProviderType;

use super::super::{ArchiveError, ArchiveLimits, inspect_provider};
use super::pack::{ZipEntry, zip_entry, zip_of};
use super::rejection_of;

fn inspected(bytes: &[u8], platform: &str, limits: &ArchiveLimits) -> Result<String, ArchiveError> {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(bytes).unwrap();
    let (dns, platform) = (ProviderType::parse("dns").unwrap(), platform.parse().unwrap());
    inspect_provider(&mut file, &dns, &platform, limits).map(|inspected| inspected.h1)
}

fn on_linux(entries: &[ZipEntry]) -> Result<String, ArchiveError> {
    inspected(&zip_of(entries), "linux_amd64", &ArchiveLimits::provider())
}

fn program(name: &str) -> ZipEntry {
    zip_entry(name, b"\x7fELF").unix(0o100_755)
}

fn good() -> ZipEntry {
    program("terraform-provider-dns_v1.0.0")
}

#[test]
fn an_archive_whose_provider_terraform_cannot_run_is_rejected() {
    let text = |name: &str| zip_entry(name, b"x");
    let windows = |entry: ZipEntry| {
        entry.with(|entry| {
            entry.made_by = 0;
            entry.attributes = 0x20;
        })
    };
    for (entries, problem) in [
        (vec![], "has no file `terraform-provider-dns`"),
        (vec![text("README.md")], "has no file `terraform-provider-dns`"),
        (vec![program("terraform-provider-web_v1.0.0")], "has no file `terraform-provider-dns`"),
        (vec![program("terraform-provider-dnsx")], "has no file `terraform-provider-dns`"),
        (vec![program("terraform-provider-dns-x_v1")], "has no file `terraform-provider-dns`"),
        (vec![program("Terraform-Provider-dns")], "has no file `terraform-provider-dns`"),
        (vec![program("a/terraform-provider-dns_v1")], "has no file `terraform-provider-dns`"),
        (vec![text("terraform-provider-dns_v1.0.0")], "it is not executable"),
        (
            vec![text("terraform-provider-dns.md"), good()],
            "`terraform-provider-dns.md` is the file",
        ),
        (vec![windows(good())], "it is not executable"),
        (vec![good(), zip_entry("docs/", b"")], "`docs` is a folder"),
        (vec![program("./terraform-provider-dns_v1")], "begins with `./`"),
        (vec![good(), text("../evil")], "`..`"),
        (vec![good(), text("/etc/passwd")], "absolute"),
        (vec![good(), text("link").unix(0o120_777)], "symbolic link"),
        (vec![good().unix(0o120_777)], "symbolic link"),
        (vec![good().unix(0o104_755)], "set-user-id"),
        (vec![good(), good()], "two entries of one name"),
        (vec![good(), program("TERRAFORM-provider-dns_v1.0.0")], "differs only by case"),
        (vec![good().with(|entry| entry.crc = Some(1))], "damaged"),
        (vec![good().with(|entry| entry.gap = b"x".to_vec())], "belongs to no entry"),
    ] {
        let message = rejection_of(on_linux(&entries));
        assert!(message.contains(problem), "{problem}: {message}");
    }
    let tar = inspected(b"\x1f\x8b\x08", "linux_amd64", &ArchiveLimits::provider());
    assert!(rejection_of(tar).contains("is not a zip archive"));
    let only_on_windows = zip_of(&[windows(program("terraform-provider-dns_v1.exe"))]);
    inspected(&only_on_windows, "windows_amd64", &ArchiveLimits::provider()).unwrap();
}

#[test]
fn an_archive_beyond_a_limit_is_rejected() {
    let limits = ArchiveLimits { unpacked_bytes: 10, ..ArchiveLimits::provider() };
    let large = zip_of(&[good(), zip_entry("a", &[0; 20])]);
    assert!(rejection_of(inspected(&large, "linux_arm", &limits)).contains("too large"));
    let limits = ArchiveLimits { entries: 1, ..ArchiveLimits::provider() };
    let many = zip_of(&[good(), zip_entry("a", b"")]);
    assert!(rejection_of(inspected(&many, "linux_arm", &limits)).contains("more than 1 entries"));
    let limits = ArchiveLimits { time: Duration::ZERO, ..ArchiveLimits::provider() };
    let slow = inspected(&zip_of(&[good()]), "linux_arm", &limits);
    assert!(matches!(slow, Err(ArchiveError::TooSlow(_))));
}

/// `terraform init` of Terraform 1.11.4 wrote these hashes into `.terraform.lock.hcl` for archives with
/// the same files.
#[test]
fn the_hash_is_the_one_that_terraform_writes() {
    let files = [
        zip_entry("docs/index.md", b"# dns\n"),
        program("terraform-provider-dns_v1.0.0"),
        zip_entry("LICENSE", b""),
    ];
    let h1 = on_linux(&files).unwrap();
    assert_eq!(h1, "h1:crnd5ZcLKM0VwdCF1dZR5xBPnJGOy8Irfc3Nf/KKAn8=");
    let stored = files.map(|file| file.with(|entry| entry.method = 0));
    let reversed: Vec<_> = stored.into_iter().rev().collect();
    assert_eq!(on_linux(&reversed).unwrap(), h1, "neither order nor compression count");
    assert_eq!(on_linux(&[good()]).unwrap(), "h1:NIBbtOJhj3JrLaq1As0igUhEMsmt8+VAlB0U2Ze/LA4=");
}
