//! Unpacks archives with other programs, and returns the files with their bytes.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use flate2::read::MultiGzDecoder;
use stile_core::package::Format;
use stile_core::package::archive::{ArchiveLimits, inspect_and_list};

use crate::process::home::Home;
use crate::terraform::Terraform;

/// The files of an archive, by their paths.
pub type Files = BTreeMap<String, Vec<u8>>;

/// Returns the files of an archive that the broker's check accepts, with the bytes that it read.
pub fn checked(archive: &[u8], format: Format) -> Option<Files> {
    let mut file: File = tempfile::tempfile().unwrap();
    file.write_all(archive).unwrap();
    let listed = inspect_and_list(&mut file, format, &ArchiveLimits::default()).ok()?;
    let files = match format {
        Format::Zip => from_zip(archive),
        Format::TarGz => from_tar_gz(archive),
    };
    let sizes: BTreeMap<&str, u64> =
        files.iter().map(|(path, content)| (path.as_str(), content.len() as u64)).collect();
    let listed: BTreeMap<&str, u64> =
        listed.iter().map(|file| (file.path.as_str(), file.bytes)).collect();
    assert_eq!(listed, sizes, "the check lists what it read");
    Some(files)
}

fn plain(name: &[u8]) -> String {
    std::str::from_utf8(name).unwrap().trim_start_matches("./").to_owned()
}

fn from_zip(archive: &[u8]) -> Files {
    let mut archive = zip::ZipArchive::new(std::io::Cursor::new(archive)).unwrap();
    let mut files = Files::new();
    for at in 0..archive.len() {
        let mut entry = archive.by_index(at).unwrap();
        if entry.is_file() {
            let mut content = Vec::new();
            entry.read_to_end(&mut content).unwrap();
            files.insert(plain(entry.name_raw()), content);
        }
    }
    files
}

fn from_tar_gz(archive: &[u8]) -> Files {
    let mut archive = tar::Archive::new(MultiGzDecoder::new(archive));
    let mut files = Files::new();
    for entry in archive.entries().unwrap() {
        let mut entry = entry.unwrap();
        if entry.header().entry_type().is_file() {
            let mut content = Vec::new();
            entry.read_to_end(&mut content).unwrap();
            files.insert(plain(&entry.path_bytes()), content);
        }
    }
    files
}

/// Returns the files below a folder.
pub fn files_in(folder: &Path) -> Files {
    let mut files = Files::new();
    walk(folder, "", &mut files);
    files
}

fn walk(folder: &Path, prefix: &str, files: &mut Files) {
    for entry in fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        let name = format!("{prefix}{}", entry.file_name().to_string_lossy());
        if entry.file_type().unwrap().is_dir() {
            walk(&entry.path(), &format!("{name}/"), files);
        } else {
            files.insert(name, fs::read(entry.path()).unwrap());
        }
    }
}

/// Unpacks zip archives with Python. Returns the files of each, or the error.
pub fn by_python(python: &Path, archives: &[PathBuf]) -> Vec<Result<Files, String>> {
    let program = "
import sys, zipfile
for path in sys.stdin.read().split('\\n'):
    try:
        zipfile.ZipFile(path).extractall(path + '-python')
        print('unpacked')
    except Exception as error:
        print(type(error).__name__, ascii(str(error)))
";
    let list: Vec<&str> = archives.iter().map(|path| path.to_str().unwrap()).collect();
    let list_path = archives[0].with_extension("list");
    fs::write(&list_path, list.join("\n")).unwrap();
    let output = Command::new(python)
        .args(["-I", "-X", "utf8", "-c", program])
        .stdin(File::open(list_path).unwrap())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let lines = String::from_utf8(output.stdout).unwrap();
    assert_eq!(lines.lines().count(), archives.len());
    let outcome = |(line, archive): (&str, &PathBuf)| match line {
        "unpacked" => Ok(files_in(Path::new(&format!("{}-python", archive.to_str().unwrap())))),
        error => Err(error.to_owned()),
    };
    lines.lines().zip(archives).map(outcome).collect()
}

/// Unpacks one zip archive with `unzip` of Info-ZIP or with `bsdtar`. Returns its files, or the error.
pub fn by_program(program: &Path, archive: &Path, folder: &Path) -> Result<Files, String> {
    fs::create_dir(folder).unwrap();
    let is_bsdtar = program.file_name().is_some_and(|name| name == "bsdtar");
    let mut command = Command::new(program);
    if is_bsdtar {
        command.arg("-xf").arg(archive).arg("-C");
    } else {
        command.args(["-q", "-o"]).arg(archive).arg("-d");
    }
    // Without a locale of UTF-8, both programs write other names.
    command.arg(folder).env("LC_ALL", "C.UTF-8").stdin(Stdio::null());
    let output = command.output().unwrap();
    // 1 is a warning of `unzip`: it unpacked everything.
    if output.status.success() || output.status.code() == Some(1) && !is_bsdtar {
        return Ok(files_in(folder));
    }
    let words = [output.stdout, output.stderr].concat();
    Err(format!("{}: {}", output.status, String::from_utf8_lossy(&words)))
}

/// Unpacks archives with `terraform init`, and returns the files of each.
pub async fn by_terraform(program: &Path, archives: &[PathBuf]) -> Vec<Files> {
    let terraform = Terraform::new(program, Home::temporary());
    let call = |(at, path): (usize, &PathBuf)| {
        format!("module \"m{at}\" {{\n  source = \"file::{}\"\n}}\n", path.display())
    };
    terraform.write_main(&archives.iter().enumerate().map(call).collect::<String>());
    let ran = terraform.init().await;
    assert_eq!(ran.code, Some(0), "{ran:?}");
    (0..archives.len()).map(|at| files_in(&terraform.installed(&format!("m{at}")))).collect()
}
