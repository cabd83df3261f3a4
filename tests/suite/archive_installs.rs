//! Publishes archives, installs them with the real Terraform, and compares the files with those that
//! the broker checked.

use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

use axum::http::Request;
use stile_core::package::Format;
use stile_protocol::names::Permission::{Download, Upload};
use stile_tests::broker::served::Served;
use stile_tests::broker::{deploy, role};
use stile_tests::process::programs::{HELPER, program};
use stile_tests::raw_archive::raw_tar::{self, TarForm, append, gzip};
use stile_tests::raw_archive::raw_zip::{RawZip, ZipMember};
use stile_tests::raw_archive::unpacked::{Files, checked, files_in};
use stile_tests::raw_archive::zip_changes;
use stile_tests::seed::SeededRandom;
use stile_tests::skipped::{skipped, tool};
use stile_tests::terraform::Terraform;

/// How many generated archives of each format Terraform installs.
const SAMPLE: usize = 10;

/// An archive that the broker accepts, with its files.
struct Accepted {
    archive: Vec<u8>,
    format: Format,
    files: Files,
}

impl Accepted {
    fn new(archive: Vec<u8>, format: Format) -> Option<Self> {
        let files = checked(&archive, format)?;
        Some(Self { archive, format, files })
    }
}

/// Publishes each archive as one module, and returns a Terraform that has installed all of them.
async fn installed(terraform: PathBuf, archives: &[Accepted]) -> Terraform {
    let served = Served::start().await;
    served.test.grant(&role("deploy"), "acme", &[Download, Upload]).await;
    let token = served.test.token(&deploy(), &[Upload]).await;
    let terraform = Terraform::new(&terraform, served.home(&deploy()));
    terraform.install_helper(&program(HELPER));
    for (at, accepted) in archives.iter().enumerate() {
        let request = Request::post(format!("/v1/modules/acme/m{at}/aws/1.0.0"))
            .header("authorization", format!("Bearer {token}"))
            .header("content-type", accepted.format.content_type());
        let request = request.body(accepted.archive.clone().into()).unwrap();
        let reply = served.test.send(request).await;
        assert_eq!(reply.status, 201, "{at}: {}", reply.text());
        let source = served.source(&format!("acme/m{at}/aws"));
        terraform.write_module_call(&format!("m{at}"), &source, "1.0.0");
    }
    let ran = terraform.init().await;
    assert_eq!(ran.code, Some(0), "{ran:?}");
    terraform
}

/// Returns a tar archive as a program on Windows writes it: every file with the mode 0666, and every
/// folder with 0777.
fn windows_tar() -> Vec<u8> {
    let mut archive = Vec::new();
    for (name, kind, mode, content) in [
        ("./", b'5', 0o777, &b""[..]),
        ("./main.tf", b'0', 0o666, b"locals {}\n"),
        ("./modules/", b'5', 0o777, b""),
        ("./modules/a/main.tf", b'0', 0o666, b"locals {}\n"),
    ] {
        append(&mut archive, TarForm::Posix.header(name, kind, mode, content.len()), content);
    }
    archive.resize(archive.len() + 1_024, 0);
    gzip(&archive)
}

/// Returns a zip archive without modes, as a program on Windows writes it.
fn windows_zip(system: u8) -> Vec<u8> {
    let members = [("main.tf", &b"locals {}\n"[..]), ("modules/", b""), ("modules/a/main.tf", b"")];
    let members = members.map(|(name, content)| ZipMember::new(name, content).without_mode(system));
    RawZip::of(members.into()).bytes()
}

#[tokio::test]
async fn archives_that_windows_programs_write_are_installed_so_that_their_owner_can_use_them() {
    let Some(program) = tool("terraform") else {
        return skipped("terraform", "that archives of Windows programs are installed");
    };
    let archives = [
        (windows_zip(0), Format::Zip),
        (windows_zip(11), Format::Zip),
        (windows_zip(14), Format::Zip),
        (windows_tar(), Format::TarGz),
    ];
    let archives = archives.map(|(archive, format)| Accepted::new(archive, format).unwrap());
    let terraform = installed(program, &archives).await;
    for (at, accepted) in archives.iter().enumerate() {
        let folder = terraform.installed(&format!("m{at}"));
        assert_eq!(files_in(&folder), accepted.files, "{at}");
        let mode = |path: &str| folder.join(path).metadata().unwrap().permissions().mode();
        for file in accepted.files.keys() {
            assert_eq!(mode(file) & 0o400, 0o400, "{at} {file}");
        }
        for folder in ["", "modules", "modules/a"] {
            assert_eq!(mode(folder) & 0o500, 0o500, "{at} {folder}");
        }
    }
}

#[tokio::test]
async fn terraform_installs_exactly_the_checked_files_of_generated_archives() {
    let Some(program) = tool("terraform") else {
        return skipped("terraform", "that generated archives are installed as they were checked");
    };
    let mut random = SeededRandom::new("archive_installs");
    let mut archives = Vec::new();
    while archives.len() < SAMPLE {
        let archive = gzip(&raw_tar::generated(&mut random));
        archives.extend(Accepted::new(archive, Format::TarGz));
    }
    while archives.len() < 2 * SAMPLE {
        archives.extend(Accepted::new(zip_changes::generated(&mut random), Format::Zip));
    }
    let terraform = installed(program, &archives).await;
    for (at, accepted) in archives.iter().enumerate() {
        let files = files_in(&terraform.installed(&format!("m{at}")));
        assert_eq!(files, accepted.files, "{at}, seed {}", random.seed());
    }
}
