//! Generates headers of tar archives, and compares how Python and GNU tar read the accepted ones.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{Seek, Write};
use std::path::{Path, PathBuf};
use std::process::Command;

use flate2::Compression;
use flate2::write::GzEncoder;
use stile_core::package::Format;
use stile_core::package::archive::{ArchiveLimits, inspect};
use stile_tests::seed::SeededRandom;
use stile_tests::skipped::{skipped, tool};

const GENERATED: u64 = 3_000;

/// Bytes that replace the bytes at an offset of a header, in the fields that programs read
/// differently.
const CHANGES: &[(usize, &[u8])] = &[
    (0, b"b.tf\0"),
    (0, b"b.tf\0garbage"),
    (0, b"modules/a.tf\0"),
    (0, b"a/\0"),
    (0, b"\0"),
    (100, b"0000755\0"),
    (100, b"0100644\0"),
    (100, b"0040755\0"),
    (100, b"0120777\0"),
    (100, b"   644 \0"),
    (108, b"\0\0\0\0\0\0\0\0"),
    (108, b"\x80\0\0\0\0\0\x10\0"),
    (116, b"        "),
    (124, b"00000000003\0"),
    (124, b"          3 "),
    (124, b"3\0\0\0\0\0\0\0\0\0\0\0"),
    (124, b"3 \0 7\0\0\0\0\0\0\0"),
    (124, b"00000000_03\0"),
    (124, b"0o000000003\0"),
    (124, b"+0000000003\0"),
    (124, b"\x0000000000003"),
    (124, b"000000003\0\x37\0"),
    (124, b"\x80\0\0\0\0\0\0\0\0\0\0\x03"),
    (124, b"00000000008\0"),
    (124, b"            "),
    (136, b"14711154254\0"),
    (136, b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff"),
    (156, b"\0"),
    (156, b"5"),
    (156, b"7"),
    (156, b"D"),
    (157, b"target\0"),
    (257, b"ustar\x0000"),
    (257, b"ustar  \0"),
    (257, b"ustar\0 \0"),
    (257, b"ustar\x0001"),
    (257, b"ustar 00"),
    (257, b"USTAR\x0000"),
    (257, b"\0\0\0\0\0\0\0\0"),
    (265, b"root\0"),
    (329, b"0000001\x000000002\0"),
    (345, b"folder\0"),
    (345, b"modules/b\0"),
    (345, b"15302642254\x0015302642254\0"),
    (345, b"\x0015302642254"),
    (476, b"15302642254\x0015302642254\0"),
    (483, b"00000000007\0"),
    (500, b"padding"),
    (508, b"tar\0"),
];

/// The entries of an archive as a program reads them: the size of each file, and `None` for a
/// folder.
type Reading = BTreeMap<String, Option<u64>>;

/// Returns the header of a file with that many bytes, in one of the three forms.
fn header(random: &mut SeededRandom, name: &str, kind: u8, size: usize) -> Vec<u8> {
    let mut header = match random.below(3) {
        0 => tar::Header::new_ustar(),
        1 => tar::Header::new_gnu(),
        _ => tar::Header::new_old(),
    };
    header.set_path(name).unwrap();
    header.set_entry_type(tar::EntryType::new(kind));
    header.set_mode(0o755);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_size(size as u64);
    header.as_bytes().to_vec()
}

/// Appends an entry with a correct checksum.
fn append(archive: &mut Vec<u8>, mut header: Vec<u8>, data: &[u8]) {
    header[148..156].fill(b' ');
    let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    archive.extend(header);
    archive.extend(data);
    archive.resize(archive.len().next_multiple_of(512), 0);
}

/// Generates an archive with one ordinary file, and one entry whose headers have random changes.
fn generated(random: &mut SeededRandom) -> Vec<u8> {
    let mut archive = Vec::new();
    let first = header(random, "main.tf", b'0', 1);
    append(&mut archive, first, b"x");
    for _ in 0..random.below(3) {
        let (kind, data) = match random.below(6) {
            0 | 1 => (b'L', &b"long-name.tf\0"[..]),
            2 | 3 => (b'x', &b"20 path=extended.tf\n"[..]),
            4 => (b'g', &b"16 comment=8c8b\n"[..]),
            _ => (b'K', &b"long-link\0"[..]),
        };
        let mut before = header(random, "before", kind, data.len());
        if random.below(8) == 0 {
            change(random, &mut before);
        }
        append(&mut archive, before, data);
    }
    let (kind, data) = if random.below(4) == 0 { (b'5', &b""[..]) } else { (b'0', &b"abc"[..]) };
    let mut entry = header(random, "entry", kind, data.len());
    for _ in 0..random.below(4) {
        change(random, &mut entry);
    }
    append(&mut archive, entry, data);
    archive.resize(archive.len() + 1_024, 0);
    archive
}

fn change(random: &mut SeededRandom, header: &mut [u8]) {
    if random.below(5) == 0 {
        header[random.below(512) as usize] = random.below(256) as u8;
        return;
    }
    let (at, bytes) = CHANGES[random.below(CHANGES.len() as u64) as usize];
    header[at..at + bytes.len()].copy_from_slice(bytes);
}

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
