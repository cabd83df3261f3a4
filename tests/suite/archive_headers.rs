//! Generates tar headers, gzip members and zip64 archives, and compares how Python, GNU tar and
//! Terraform read the accepted ones.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{Seek, Write};
use std::path::{Path, PathBuf};
use std::process::Command;

use flate2::write::GzEncoder;
use flate2::{Compression, GzBuilder};
use stile_core::package::Format;
use stile_core::package::archive::{ArchiveLimits, inspect, inspect_and_list};
use stile_tests::process::home::Home;
use stile_tests::raw_archive::raw_tar::{append, generated, header};
use stile_tests::seed::SeededRandom;
use stile_tests::skipped::{skipped, tool};
use stile_tests::terraform::Terraform;

const GENERATED: u64 = 3_000;
const GENERATED_GZIP: u64 = 300;

/// The entries of an archive as a program reads them: the size of each file, and `None` for a
/// folder.
type Reading = BTreeMap<String, Option<u64>>;

fn is_accepted(archive: &[u8]) -> bool {
    let mut encoder = GzEncoder::new(tempfile::tempfile().unwrap(), Compression::fast());
    encoder.write_all(archive).unwrap();
    let mut file: File = encoder.finish().unwrap();
    file.rewind().unwrap();
    inspect(&mut file, Format::TarGz, &ArchiveLimits::default()).is_ok()
}

/// Returns the entries as the broker's inspection reads them.
fn inspected(archive: &[u8]) -> Reading {
    let mut archive = tar::Archive::new(archive);
    let entries = archive.entries().unwrap().map(|entry| entry.unwrap());
    let entries = entries.filter(|entry| !entry.header().entry_type().is_pax_global_extensions());
    let read = entries.map(|entry| {
        let name = String::from_utf8(entry.path_bytes().into_owned()).unwrap();
        let size = entry.header().entry_type().is_file().then(|| entry.size());
        (plain(&name), size)
    });
    read.collect()
}

fn plain(name: &str) -> String {
    name.trim_start_matches("./").trim_end_matches('/').to_owned()
}

/// Returns the entries of every archive as Python reads them.
fn by_python(python: &Path, archives: &[PathBuf]) -> Vec<Reading> {
    let program = "
import json, sys, tarfile
for path in sys.stdin.read().split():
    found = []
    for entry in tarfile.open(path):
        kind = 'file' if entry.isreg() else 'folder' if entry.isdir() else 'other'
        found.append([entry.name, entry.size, kind])
    print(json.dumps(found))
";
    let folder = archives[0].parent().unwrap();
    let list: Vec<&str> = archives.iter().map(|path| path.to_str().unwrap()).collect();
    fs::write(folder.join("list"), list.join("\n")).unwrap();
    let output = Command::new(python)
        .args(["-I", "-c", program])
        .stdin(File::open(folder.join("list")).unwrap())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let lines = String::from_utf8(output.stdout).unwrap();
    let read = lines.lines().map(|line| {
        let entries: Vec<(String, u64, String)> = serde_json::from_str(line).unwrap();
        let entry = |(name, size, kind): (String, u64, String)| match kind.as_str() {
            "file" => (plain(&name), Some(size)),
            "folder" => (plain(&name), None),
            _ => (format!("neither a file nor a folder: {name}"), None),
        };
        entries.into_iter().map(entry).collect()
    });
    read.collect()
}

/// Returns the files and folders that GNU tar creates from an archive.
fn by_gnu_tar(tar: &Path, archive: &Path, folder: &Path) -> Reading {
    fs::create_dir(folder).unwrap();
    // The exit status also says whether tar can set owner and time, which do not matter here.
    Command::new(tar)
        .args(["--extract", "--touch", "--no-same-owner", "--file"])
        .arg(archive)
        .arg("--directory")
        .arg(folder)
        .output()
        .unwrap();
    let mut found = Reading::new();
    walk(folder, "", &mut found);
    found
}

fn walk(folder: &Path, prefix: &str, found: &mut Reading) {
    for entry in fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        let name = format!("{prefix}{}", entry.file_name().to_str().unwrap());
        let data = entry.path().symlink_metadata().unwrap();
        if data.is_dir() {
            walk(&entry.path(), &format!("{name}/"), found);
        }
        found.insert(name, data.is_file().then_some(data.len()));
    }
}

/// Adds the folders that appear only in paths, because GNU tar creates them.
fn with_folders(reading: &Reading) -> Reading {
    let parents = reading.keys().flat_map(|name| {
        name.match_indices('/').map(|(at, _)| (name[..at].to_owned(), None)).collect::<Vec<_>>()
    });
    parents.chain(reading.clone()).collect()
}

/// Creates a folder with a module whose longest path fits only into a prefix or an extended header.
fn module() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let long = format!("modules/{}/{}.tf", "d".repeat(60), "f".repeat(60));
    for name in ["main.tf", "modules/a/main.tf", &long] {
        let path = folder.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, "locals {}\n").unwrap();
    }
    folder
}

#[test]
fn archives_that_gnu_tar_and_python_write_are_accepted_without_access_times() {
    let (folder, shows) = (module(), "that archives of other programs are accepted");
    let outside = tempfile::tempdir().unwrap();
    let archive = outside.path().join("module.tar");
    let written = |command: &mut Command| {
        assert!(command.current_dir(folder.path()).status().unwrap().success(), "{command:?}");
        is_accepted(&fs::read(&archive).unwrap())
    };
    match tool("tar").filter(is_gnu) {
        None => skipped("GNU tar", shows),
        Some(tar) => {
            let packs = |options: &[&str], content: &str| {
                written(Command::new(&tar).args(options).arg("-cf").arg(&archive).arg(content))
            };
            assert!(!packs(&["--format=gnu", "--incremental"], "main.tf"));
            assert!(!packs(&["--format=oldgnu", "--incremental"], "main.tf"));
            for content in ["main.tf", "."] {
                for format in ["gnu", "oldgnu", "ustar", "posix"] {
                    assert!(packs(&[&format!("--format={format}")], content), "{format}");
                }
            }
            assert!(packs(&["--format=v7"], "main.tf"));
        }
    }
    match tool("python3") {
        None => skipped("python3", shows),
        Some(python) => {
            for format in ["USTAR_FORMAT", "GNU_FORMAT", "PAX_FORMAT"] {
                let program = format!(
                    "import sys, tarfile\nwith tarfile.open(sys.argv[1], 'w', format=tarfile.{format}) as archive: archive.add('.')"
                );
                let python = &mut Command::new(&python);
                assert!(written(python.args(["-I", "-c", &program]).arg(&archive)), "{format}");
            }
        }
    }
}

fn is_gnu(tar: &PathBuf) -> bool {
    let version = Command::new(tar).arg("--version").output().unwrap().stdout;
    version.starts_with(b"tar (GNU tar)")
}

#[test]
fn python_and_gnu_tar_read_every_accepted_header_in_the_same_way() {
    let mut random = SeededRandom::new("archive_headers");
    let generated = (0..GENERATED).map(|_| generated(&mut random));
    let accepted: Vec<Vec<u8>> = generated.filter(|archive| is_accepted(archive)).collect();
    let count = accepted.len() as u64;
    assert!(count > 300 && count < GENERATED - 300, "{count} accepted of seed {}", random.seed());

    let folder = tempfile::tempdir().unwrap();
    let paths: Vec<PathBuf> =
        (0..accepted.len()).map(|at| folder.path().join(format!("{at}.tar"))).collect();
    for (path, archive) in paths.iter().zip(&accepted) {
        fs::write(path, archive).unwrap();
    }
    let read: Vec<Reading> = accepted.iter().map(|archive| inspected(archive)).collect();
    let shows = "that other programs read an accepted header of a tar archive in the same way";
    match tool("python3") {
        None => skipped("python3", shows),
        Some(python) => {
            let others = by_python(&python, &paths);
            assert_eq!(others.len(), read.len());
            for ((ours, other), path) in read.iter().zip(&others).zip(&paths) {
                assert_eq!(ours, other, "Python, {}, seed {}", path.display(), random.seed());
            }
        }
    }
    match tool("tar").filter(is_gnu) {
        None => skipped("GNU tar", shows),
        Some(tar) => {
            for (ours, path) in read.iter().zip(&paths) {
                let other = by_gnu_tar(&tar, path, &path.with_extension("unpacked"));
                let ours = with_folders(ours);
                assert_eq!(ours, other, "GNU tar, {}, seed {}", path.display(), random.seed());
            }
        }
    }
}

/// Returns one gzip member, whose header has random optional fields.
fn member(random: &mut SeededRandom, data: &[u8]) -> Vec<u8> {
    let mut header = GzBuilder::new().mtime(random.below(1 << 32) as u32);
    if random.below(3) == 0 {
        header = header.filename("module.tar");
    }
    if random.below(3) == 0 {
        header = header.comment("a comment");
    }
    if random.below(3) == 0 {
        header = header.extra(b"BC\x02\0\x1b\0".to_vec());
    }
    let mut encoder = header.write(Vec::new(), Compression::new(random.below(10) as u32));
    encoder.write_all(data).unwrap();
    encoder.finish().unwrap()
}

/// Returns a tar archive as several gzip members, some of them empty, and sometimes with a fault.
fn members(random: &mut SeededRandom, archive: &[u8]) -> Vec<u8> {
    let count = random.below(8);
    let mut ends: Vec<usize> =
        (0..count).map(|_| random.below(archive.len() as u64 + 1) as usize).collect();
    ends.extend([archive.len(); 2]);
    ends.sort_unstable();
    let (mut bytes, mut from) = (Vec::new(), 0);
    for end in ends {
        bytes.extend(member(random, &archive[from..end]));
        if random.below(40) == 0 {
            let faults: [&[u8]; 4] = [&[0; 8], b"text", b"\x1f", b"\x1f\x8b\x08\x20\0\0\0\0\0\xff"];
            bytes.extend(faults[random.below(4) as usize]);
        }
        from = end;
    }
    bytes
}

/// Returns the files of an accepted archive.
fn listed(path: &Path, format: Format) -> Option<Reading> {
    let mut file = File::open(path).unwrap();
    let files = inspect_and_list(&mut file, format, &ArchiveLimits::default()).ok()?;
    Some(files.into_iter().map(|file| (file.path, Some(file.bytes))).collect())
}

/// Asserts that Terraform unpacks exactly the listed files of each archive.
async fn unpacked_by_terraform(program: &Path, archives: &[(PathBuf, Reading)]) {
    let terraform = Terraform::new(program, Home::temporary());
    let call = |(at, (path, _)): (usize, &(PathBuf, Reading))| {
        format!("module \"m{at}\" {{\n  source = \"file::{}\"\n}}\n", path.display())
    };
    terraform.write_main(&archives.iter().enumerate().map(call).collect::<String>());
    let ran = terraform.init().await;
    assert_eq!(ran.code, Some(0), "{ran:?}");
    for (at, (path, expected)) in archives.iter().enumerate() {
        let mut found = Reading::new();
        walk(&terraform.installed(&format!("m{at}")), "", &mut found);
        found.retain(|_, size| size.is_some());
        assert_eq!(found, *expected, "Terraform, {}", path.display());
    }
}

#[tokio::test]
async fn every_program_reads_the_members_of_an_accepted_gzip_file_as_one_stream() {
    let mut random = SeededRandom::new("gzip_members");
    let folder = tempfile::tempdir().unwrap();
    let mut archive = Vec::new();
    for (name, size) in [("main.tf", 10), ("modules/a/main.tf", 3_000), ("README.md", 0)] {
        let data: Vec<u8> = (0..size).map(|_| b'#').collect();
        let header = header(&mut random, name, b'0', size);
        append(&mut archive, header, &data);
    }
    archive.resize(archive.len() + 1_024, 0);
    let expected = inspected(&archive);
    let mut accepted = Vec::new();
    for at in 0..GENERATED_GZIP {
        let path = folder.path().join(format!("{at}.tar.gz"));
        fs::write(&path, members(&mut random, &archive)).unwrap();
        if let Some(listed) = listed(&path, Format::TarGz) {
            assert_eq!(listed, expected, "{}, seed {}", path.display(), random.seed());
            accepted.push((path, listed));
        }
    }
    let (count, seed) = (accepted.len() as u64, random.seed());
    assert!(count > 100 && count < GENERATED_GZIP - 10, "{count} accepted of seed {seed}");

    let shows = "that other programs read the members of a gzip file as one stream";
    match tool("python3") {
        None => skipped("python3", shows),
        Some(python) => {
            let paths: Vec<PathBuf> = accepted.iter().map(|(path, _)| path.clone()).collect();
            let others = by_python(&python, &paths);
            assert_eq!(others.len(), paths.len());
            for (other, path) in others.iter().zip(&paths) {
                assert_eq!(*other, expected, "Python, {}, seed {seed}", path.display());
            }
        }
    }
    match tool("tar").filter(is_gnu) {
        None => skipped("GNU tar", shows),
        Some(tar) => {
            for (path, _) in &accepted {
                let other = by_gnu_tar(&tar, path, &path.with_extension("unpacked"));
                assert_eq!(other, with_folders(&expected), "GNU tar, {}", path.display());
            }
        }
    }
    match tool("terraform") {
        None => skipped("terraform", shows),
        Some(program) => unpacked_by_terraform(&program, &accepted[..40]).await,
    }
}

/// Runs a program that packs `main.tf` and `modules/`, and returns whether it succeeded.
fn packs(program: &Path, arguments: &[&str], folder: &Path) -> bool {
    Command::new(program).args(arguments).current_dir(folder).status().unwrap().success()
}

#[tokio::test]
async fn terraform_reads_a_small_zip64_archive_as_it_was_checked() {
    let (folder, outside) = (module(), tempfile::tempdir().unwrap());
    let shows = "that other programs read an accepted zip64 archive in the same way";
    let mut archives = Vec::new();
    let path = |name: &str| outside.path().join(name).to_str().unwrap().to_owned();
    match tool("zip") {
        None => skipped("zip", shows),
        Some(zip) => {
            let arguments = ["-q", "-r", "-fz", &path("info-zip.zip"), "main.tf", "modules"];
            assert!(packs(&zip, &arguments, folder.path()));
            archives.push(path("info-zip.zip"));
        }
    }
    let Some(python) = tool("python3") else { return skipped("python3", shows) };
    let program = "
import os, sys, zipfile
files = [os.path.relpath(os.path.join(top, name)) for top, _, names in os.walk('.') for name in names]
class Pipe:
    def __init__(self, file): self.file = file
    def write(self, data): return self.file.write(data)
    def flush(self): self.file.flush()
for path in sys.argv[1:]:
    if path.endswith('limit.zip'): zipfile.ZIP64_LIMIT = 0
    with open(path, 'wb') as file:
        target = Pipe(file) if path.endswith('pipe.zip') else file
        with zipfile.ZipFile(target, 'w', zipfile.ZIP_DEFLATED) as archive:
            for name in files:
                info = zipfile.ZipInfo.from_file(name)
                info.compress_type = zipfile.ZIP_DEFLATED
                with open(name, 'rb') as data, archive.open(info, 'w', force_zip64=True) as entry:
                    entry.write(data.read())
";
    let (forced, piped, limited) = (path("forced.zip"), path("pipe.zip"), path("limit.zip"));
    let arguments = ["-I", "-c", program, &forced, &piped, &limited];
    assert!(packs(&python, &arguments, folder.path()));
    archives.extend([forced, piped]);
    let mut limited = File::open(limited).unwrap();
    let refused = inspect(&mut limited, Format::Zip, &ArchiveLimits::default()).unwrap_err();
    assert!(refused.to_string().contains("zip64 end records"), "{refused}");

    let mut expected = Reading::new();
    walk(folder.path(), "", &mut expected);
    expected.retain(|_, size| size.is_some());
    let archives: Vec<(PathBuf, Reading)> = archives
        .into_iter()
        .map(|path| {
            let listed = listed(Path::new(&path), Format::Zip);
            assert_eq!(listed.as_ref(), Some(&expected), "{path}");
            (PathBuf::from(path), expected.clone())
        })
        .collect();
    match tool("terraform") {
        None => skipped("terraform", shows),
        Some(program) => unpacked_by_terraform(&program, &archives).await,
    }
}
