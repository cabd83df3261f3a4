//! Tests of the packing: which files are in the archive, and how.

use std::fs;
use std::io::Seek as _;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::time::{Duration, SystemTime};

use stile_core::package::Format;
use stile_core::package::archive::inspect;

use super::*;

const KEY: &str = "-----BEGIN PRIVATE KEY-----\nMIIBVAIBADANBgkqhkiG9w0BAQEFAASC\n";

fn folder(files: &[&str]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for name in files {
        let path = folder.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, format!("# {name}\n")).unwrap();
    }
    folder
}

fn bytes(folder: &Path) -> Vec<u8> {
    let mut file = pack(folder, &[]).unwrap().file;
    let mut bytes = Vec::new();
    file.rewind().unwrap();
    file.read_to_end(&mut bytes).unwrap();
    bytes
}

fn patterns(texts: &[&str]) -> Vec<Pattern> {
    texts.iter().map(|text| Pattern::parse(text).unwrap()).collect()
}

fn names(folder: &Path) -> Vec<String> {
    let archive = zip::ZipArchive::new(io::Cursor::new(bytes(folder))).unwrap();
    let mut names: Vec<String> =
        archive.file_names().map(|name| name.unwrap().into_owned()).collect();
    names.sort();
    names
}

#[test]
fn a_symbolic_link_that_leads_to_no_file_of_the_folder_is_rejected() {
    for (target, problem) in [
        ("../elsewhere", "is a symbolic link that leads to no file"),
        ("missing.tf", "is a symbolic link that leads to no file"),
        ("link", "is a symbolic link that leads to no file"),
        ("main.tf/", "cannot be read"),
        ("/etc/passwd", "is a symbolic link that leads out of the folder"),
        ("/", "is a symbolic link that leads out of the folder"),
        ("..", "is a symbolic link that leads out of the folder"),
        ("modules/../..", "is a symbolic link that leads out of the folder"),
        (".", "is a symbolic link to a folder"),
        ("modules", "is a symbolic link to a folder"),
    ] {
        let folder = folder(&["main.tf", "modules/a/main.tf"]);
        symlink(target, folder.path().join("link")).unwrap();
        for include in [vec![], patterns(&["link"])] {
            let error = pack(folder.path(), &include).unwrap_err().to_string();
            assert!(error.contains(&format!("/link` {problem}")), "{target}: {error}");
        }
    }
}

#[test]
fn a_symbolic_link_to_a_file_of_the_folder_is_packed_as_that_file() {
    let folder = folder(&["main.tf", "shared/versions.tf", "modules/a/main.tf", "run.sh"]);
    let run = folder.path().join("run.sh");
    fs::set_permissions(&run, fs::Permissions::from_mode(0o755)).unwrap();
    for (link, target) in [
        ("versions.tf", "shared/versions.tf"),
        ("modules/a/versions.tf", "../../shared/versions.tf"),
        ("modules/a/chain.tf", "versions.tf"),
        ("modules/a/run.sh", run.to_str().unwrap()),
    ] {
        symlink(target, folder.path().join(link)).unwrap();
    }
    let mut archive = zip::ZipArchive::new(io::Cursor::new(bytes(folder.path()))).unwrap();
    for (name, content, mode) in [
        ("versions.tf", "# shared/versions.tf\n", 0o644),
        ("modules/a/versions.tf", "# shared/versions.tf\n", 0o644),
        ("modules/a/chain.tf", "# shared/versions.tf\n", 0o644),
        ("modules/a/run.sh", "# run.sh\n", 0o755),
    ] {
        let mut entry = archive.by_name(name).unwrap();
        assert_eq!(entry.unix_mode(), Some(0o100_000 | mode), "{name}");
        assert_eq!(io::read_to_string(&mut entry).unwrap(), content, "{name}");
    }
}

#[test]
fn a_symbolic_link_publishes_no_file_that_is_skipped_or_refused() {
    let folder = folder(&[
        "main.tf",
        ".git/config",
        ".terraform/modules/modules.json",
        ".terraformignore",
        "docs/a.md",
        "prod.tfvars",
        "keys/id_rsa",
        "keys/plain",
    ]);
    fs::write(folder.path().join(".terraformignore"), "docs/\nkeys/plain\n").unwrap();
    for (link, target) in [
        ("config.txt", ".git/config"),
        ("modules.json", ".terraform/modules/modules.json"),
        ("docs.md", "docs/a.md"),
        ("example.txt", "prod.tfvars"),
        ("plain", "keys/plain"),
    ] {
        symlink(target, folder.path().join(link)).unwrap();
    }
    fs::remove_file(folder.path().join("keys/id_rsa")).unwrap();
    assert_eq!(names(folder.path()), [".terraformignore", "main.tf"]);
    let skipped = pack(folder.path(), &[]).unwrap().skipped;
    for link in ["config.txt", "modules.json", "docs.md", "example.txt", "plain"] {
        assert!(skipped.contains(&link.to_owned()), "{link}: {skipped:?}");
    }
    fs::write(folder.path().join("keys/id_rsa"), "").unwrap();
    fs::write(folder.path().join("keys/other"), KEY).unwrap();
    symlink("keys/id_rsa", folder.path().join("a.txt")).unwrap();
    symlink("keys/other", folder.path().join("b.txt")).unwrap();
    let error = pack(folder.path(), &[]).unwrap_err().to_string();
    assert!(
        error.ends_with(
            "` contains secrets: `a.txt` (private key), `b.txt` (private key), \
             `keys/id_rsa` (private key), `keys/other` (private key)"
        ),
        "{error}"
    );
}

#[test]
fn special_files_and_large_folders_are_rejected() {
    let piped = folder(&["main.tf"]);
    let _listener = std::os::unix::net::UnixListener::bind(piped.path().join("socket")).unwrap();
    assert!(
        pack(piped.path(), &[]).unwrap_err().to_string().contains("is neither a file nor a folder")
    );
    let two = folder(&["a.tf", "b.tf"]);
    for limits in [
        ArchiveLimits { entries: 1, ..ArchiveLimits::default() },
        ArchiveLimits { unpacked_bytes: 8, ..ArchiveLimits::default() },
    ] {
        assert!(
            matches!(folder_content(two.path(), &[], &limits), Err(PackError::TooLarge { .. })),
            "{limits:?}"
        );
    }
    assert!(matches!(pack(&two.path().join("missing"), &[]), Err(PackError::Unreadable { .. })));
}

#[test]
fn a_file_that_changes_during_packing_is_rejected() {
    let later = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000);
    let changes: [fn(&Path); 5] = [
        |path| fs::write(path, "longer than it was\n").unwrap(),
        |path| fs::write(path, "").unwrap(),
        |path| {
            fs::remove_file(path).unwrap();
            symlink("/etc/passwd", path).unwrap();
        },
        |path| {
            fs::remove_file(path).unwrap();
            assert!(std::process::Command::new("mkfifo").arg(path).status().unwrap().success());
        },
        |path| {
            File::options()
                .write(true)
                .open(path)
                .unwrap()
                .set_modified(SystemTime::UNIX_EPOCH)
                .unwrap();
        },
    ];
    for (at, change) in changes.into_iter().enumerate() {
        let folder = folder(&["main.tf"]);
        let path = folder.path().join("main.tf");
        File::options().write(true).open(&path).unwrap().set_modified(later).unwrap();
        let walked = folder_content(folder.path(), &[], &ArchiveLimits::default()).unwrap();
        assert!(walked.files[0].read(&walked.root).is_ok());
        change(&path);
        let error = walked.files[0].read(&walked.root).unwrap_err().to_string();
        assert!(error.ends_with("/main.tf` changed while it was packed"), "number {at}: {error}");
    }
}

#[test]
fn the_archive_does_not_depend_on_times_and_permissions() {
    let names = ["main.tf", "modules/b/main.tf", "modules/a/main.tf", "README.md", "a/z", "a-b"];
    let (one, other) = (folder(&names), folder(&names.map(|name| name)));
    for (at, name) in names.iter().enumerate() {
        let path = other.path().join(name);
        let time = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000 + at as u64 * 86_400);
        File::options().write(true).open(&path).unwrap().set_modified(time).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    }
    fs::create_dir(other.path().join("empty")).unwrap();
    assert_eq!(bytes(one.path()), bytes(other.path()));
    fs::set_permissions(other.path().join("main.tf"), fs::Permissions::from_mode(0o700)).unwrap();
    assert_ne!(bytes(one.path()), bytes(other.path()), "the executable bit belongs to the module");
}

#[test]
fn what_does_not_belong_to_a_module_is_skipped_and_listed() {
    let folder = folder(&[
        ".git/config",
        ".terraform/modules/modules.json",
        ".terraform.lock.hcl",
        ".gitignore",
        ".venv/bin/python",
        ".env",
        "crash.log",
        "main.tf",
        "out",
        "prod.tfvars",
        "terraform.tfvars.example",
        "terraform.tfstate",
        "examples/a/.env.local",
        "examples/a/main.tf",
        "examples/a/terraform.tfstate.backup",
        "examples/a/.terraform.tfstate.lock.info",
        "lambda/node_modules/a/index.js",
        "lambda/index.js",
        "modules/b/.git",
        "modules/b/main.tf",
        "terraform/main.tf",
    ]);
    let elsewhere = tempfile::tempdir().unwrap();
    for link in ["examples/a/.terraform", "modules/b/node_modules", "modules/b/.venv"] {
        symlink(elsewhere.path(), folder.path().join(link)).unwrap();
    }
    symlink("/missing", folder.path().join("modules/b/.terraform")).unwrap();
    let plan = br#"{"format_version":"1.2","terraform_version":"1.11.4"}"#;
    fs::write(folder.path().join("out"), plan).unwrap();
    let expected = [
        ".gitignore",
        ".terraform.lock.hcl",
        "examples/a/main.tf",
        "lambda/index.js",
        "main.tf",
        "modules/b/main.tf",
        "terraform.tfvars.example",
        "terraform/main.tf",
    ];
    assert_eq!(names(folder.path()), expected);
    let skipped = [
        ".env",
        ".git/",
        ".terraform/",
        ".venv/",
        "crash.log",
        "examples/a/.env.local",
        "examples/a/.terraform",
        "examples/a/.terraform.tfstate.lock.info",
        "examples/a/terraform.tfstate.backup",
        "lambda/node_modules/",
        "modules/b/.git",
        "modules/b/.terraform",
        "modules/b/.venv",
        "modules/b/node_modules",
        "out",
        "prod.tfvars",
        "terraform.tfstate",
    ];
    assert_eq!(pack(folder.path(), &[]).unwrap().skipped, skipped);
}

#[test]
fn every_secret_is_named_unless_it_is_ignored_or_included() {
    let folder = folder(&[".terraformrc", "credentials.tfrc.json", "keys/id_rsa", "main.tf"]);
    fs::write(folder.path().join("server.pem"), KEY).unwrap();
    fs::write(folder.path().join("ca.pem"), "-----BEGIN CERTIFICATE-----\nMII\n").unwrap();
    let error = pack(folder.path(), &[]).unwrap_err().to_string();
    assert!(
        error.ends_with(
            "` contains secrets: `.terraformrc` (CLI configuration with tokens), \
             `credentials.tfrc.json` (CLI configuration with tokens), \
             `keys/id_rsa` (private key), `server.pem` (private key)"
        ),
        "{error}"
    );

    let include = patterns(&["server.pem", "/keys/", "*rc", "*.tfrc.json"]);
    let packed = pack(folder.path(), &include).unwrap();
    assert_eq!(packed.skipped, [""; 0]);
    let mut archive = zip::ZipArchive::new(packed.file).unwrap();
    let mut entry = archive.by_name("server.pem").unwrap();
    assert_eq!(io::read_to_string(&mut entry).unwrap(), KEY);

    let ignored = "*rc\n*.tfrc.json\nkeys/\n*.pem\n!ca.pem\n";
    fs::write(folder.path().join(".terraformignore"), ignored).unwrap();
    assert_eq!(names(folder.path()), [".terraformignore", "ca.pem", "main.tf"]);
    let skipped = pack(folder.path(), &[]).unwrap().skipped;
    assert_eq!(skipped, [".terraformrc", "credentials.tfrc.json", "keys/id_rsa", "server.pem"]);
}

/// Creates an entry at a path.
type Create<'a> = &'a dyn Fn(&Path);

#[test]
fn a_terraformignore_that_cannot_be_followed_is_rejected() {
    let outside = tempfile::tempdir().unwrap();
    fs::write(outside.path().join("rules"), "docs/\n").unwrap();
    let (rules, large) = (outside.path().join("rules"), "a\n".repeat(40_000));
    let writes: [(Create<'_>, &str); 6] = [
        (&|path| symlink(&rules, path).unwrap(), "is a symbolic link that leads out"),
        (&|path| symlink("/missing", path).unwrap(), "is a symbolic link that leads to no file"),
        (&|path| fs::create_dir(path).unwrap(), "is not a file"),
        (&|path| fs::write(path, b"a\xff\n").unwrap(), "is not UTF-8"),
        (&|path| fs::write(path, &large).unwrap(), "is larger than 64 KiB"),
        (
            &|path| fs::write(path, "a\n[b\n").unwrap(),
            "has a pattern in line 2 that has a `[` without a `]`",
        ),
    ];
    for (write, problem) in writes {
        let folder = folder(&["main.tf"]);
        write(&folder.path().join(".terraformignore"));
        let error = pack(folder.path(), &[]).unwrap_err().to_string();
        assert!(error.contains(&format!("/.terraformignore` {problem}")), "{error}");
    }
}

#[test]
fn the_rules_of_terraformignore_apply_in_every_folder() {
    let folder = folder(&[
        "docs/a.md",
        "docs/b/c.md",
        "main.tf",
        "modules/a/docs/d.md",
        "modules/a/main.tf",
        "modules/a/test.md",
        "README.md",
        "tests/unit/main.tf",
        "tests/keep.tf",
        "tools/run.sh",
    ]);
    let rules = "# not published\ndocs/\n*.md\n!README.md\n/tests/**\n!tests/keep.tf\ntools\n";
    fs::write(folder.path().join("rules"), rules).unwrap();
    symlink("rules", folder.path().join(".terraformignore")).unwrap();
    let expected = [
        ".terraformignore",
        "README.md",
        "main.tf",
        "modules/a/main.tf",
        "rules",
        "tests/keep.tf",
        "tools/run.sh",
    ];
    assert_eq!(names(folder.path()), expected);
    let packed = pack(folder.path(), &[]).unwrap();
    assert_eq!(packed.only_name_excluded, ["tools"], "Terraform packs its files, too");
    let skipped = [
        "docs/a.md",
        "docs/b/c.md",
        "modules/a/docs/d.md",
        "modules/a/test.md",
        "tests/unit/main.tf",
    ];
    assert_eq!(packed.skipped, skipped);
}

#[test]
fn a_pattern_that_selects_no_file_is_reported() {
    let folder = folder(&["main.tf", "a.tfvars", ".git/config", "docs/b.md"]);
    let asked = ["*.tfvars", "b.tfvars", "/docs", ".git/config", "docs/"];
    let packed = pack(folder.path(), &patterns(&asked)).unwrap();
    assert_eq!(packed.unmatched, ["b.tfvars", "/docs", ".git/config"]);
}

#[test]
fn a_folder_with_a_name_that_a_system_cannot_hold_is_rejected_before_it_is_sent() {
    for (name, word) in [
        ("aux.tf", "Windows device"),
        ("NUL/main.tf", "Windows device"),
        ("com1.json", "Windows device"),
        ("LPT\u{b9}.txt", "Windows device"),
        ("conin$", "Windows device"),
        ("what?.tf", "Windows does not allow"),
        ("a<b>.tf", "Windows does not allow"),
        ("a|b/main.tf", "Windows does not allow"),
        ("a:b.tf", "`:`"),
        ("main.tf.", "dot or a space"),
        ("a /main.tf", "dot or a space"),
        ("cafe\u{301}.tf", "normal form"),
    ] {
        let folder = folder(&["main.tf", "caf\u{e9}.tf", name]);
        let mut packed = pack(folder.path(), &[]).unwrap();
        let outcome = inspect(&mut packed.file, Format::Zip, &ArchiveLimits::default());
        let message = outcome.unwrap_err().to_string();
        assert!(message.contains(word), "{name}: {message}");
    }
}

#[test]
fn files_get_a_mode_that_lets_their_owner_read_them() {
    let folder = folder(&["main.tf", "modules/a/main.tf", "run.sh"]);
    for (name, mode) in [("main.tf", 0o600), ("modules/a/main.tf", 0o466), ("run.sh", 0o700)] {
        let path = folder.path().join(name);
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }
    let mut archive = zip::ZipArchive::new(io::Cursor::new(bytes(folder.path()))).unwrap();
    for (name, mode) in [("main.tf", 0o644), ("modules/a/main.tf", 0o644), ("run.sh", 0o755)] {
        let entry = archive.by_name(name).unwrap();
        assert_eq!(entry.unix_mode(), Some(0o100_000 | mode), "{name}");
    }
    assert_eq!(archive.len(), 3, "folders have no entries, so that programs choose their modes");
}

#[test]
fn a_packed_folder_passes_the_inspection_of_the_broker() {
    let folder = folder(&["main.tf", "modules/a/main.tf", "run.sh"]);
    fs::set_permissions(folder.path().join("run.sh"), fs::Permissions::from_mode(0o777)).unwrap();
    fs::write(folder.path().join("large.bin"), vec![7; 300_000]).unwrap();
    let mut packed = pack(folder.path(), &[]).unwrap();
    let contents = inspect(&mut packed.file, Format::Zip, &ArchiveLimits::default()).unwrap();
    assert_eq!(contents.files, 4);
    let link = tempfile::tempdir().unwrap();
    symlink(folder.path(), link.path().join("module")).unwrap();
    assert_eq!(
        bytes(&link.path().join("module")),
        bytes(folder.path()),
        "a link to the folder gives the same archive"
    );
}
