//! Repacks a tarball of a release to a zip archive: the same tarball gives the same bytes.
//!
//! It streams each file, so a large provider needs no memory.

use std::collections::HashSet;
use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::path::Path;

use chrono::{DateTime as UtcTime, Datelike as _, Timelike as _};
use flate2::read::MultiGzDecoder;
use stile_core::package::archive::{ArchiveLimits, inspect_release_tarball};
use tar::{Archive, EntryType};
use terraform_credentials_stile::message::one_line;
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, DateTime, ZipWriter};

use super::folder::{open, unreadable};
use super::zip_file::{archive_failure, rejected};
use crate::error::CommandError;

/// The permissions that a file keeps. The bits for another user or group (`setuid`) could be abused.
const PERMISSIONS: u32 = 0o777;

/// Writes the regular files of a tarball into a temporary zip archive.
///
/// The inspection before it has the limits of archives, so that a bomb is found before it is unpacked.
///
/// # Errors
///
/// [`CommandError`], if the tarball is unsafe, has an entry that is not a file or a folder, or cannot be
/// read, or if the disk is full.
pub(super) fn repack(path: &Path) -> Result<File, CommandError> {
    let mut tarball = open(path)?;
    let limits = ArchiveLimits::provider();
    inspect_release_tarball(&mut tarball, &limits)
        .map_err(|error| archive_failure(path, &error))?;
    io::Seek::rewind(&mut tarball).map_err(|error| unreadable(path, &error))?;
    let full = |error: io::Error| CommandError::unwritable(&error);
    let zip = tempfile::tempfile().map_err(full)?;
    let mut zip = ZipWriter::new(BufWriter::new(zip));
    let unpacked = MultiGzDecoder::new(BufReader::new(tarball));
    // The file can change after the inspection, so the limit holds here too.
    let mut entries = Archive::new(unpacked.take(limits.unpacked_bytes.saturating_mul(2)));
    let mut names = HashSet::new();
    for entry in entries.entries().map_err(|error| unreadable(path, &error))? {
        let mut entry = entry.map_err(|error| unreadable(path, &error))?;
        let name = String::from_utf8(entry.path_bytes().into_owned())
            .map_err(|_| rejected(path, "an entry has a name that is not UTF-8"))?;
        let problem = |problem: &str| rejected(path, &format!("`{}` {problem}", one_line(&name)));
        match entry.header().entry_type() {
            EntryType::Directory => continue,
            EntryType::Regular | EntryType::Continuous => {}
            _ => return Err(problem("is not a regular file").hint("pack only regular files")),
        }
        let inside = safe_name(&name).ok_or_else(|| problem("is not a safe path"))?;
        if !names.insert(inside.clone()) {
            return Err(problem("is there twice"));
        }
        let mode = entry.header().mode().map_err(|error| unreadable(path, &error))?;
        let time = entry.header().mtime().map_err(|error| unreadable(path, &error))?;
        let options = SimpleFileOptions::default()
            .compression_method(CompressionMethod::Deflated)
            .large_file(entry.size() > u64::from(u32::MAX))
            .last_modified_time(zip_time(time))
            .unix_permissions(mode & PERMISSIONS);
        zip.start_file(inside, options).map_err(|error| full(error.into()))?;
        copy(&mut entry, &mut zip, path)?;
    }
    let written = zip.finish().map_err(|error| full(error.into()))?;
    written.into_inner().map_err(|error| full(error.into_error()))
}

/// Copies one file. An error says whether reading or writing failed.
fn copy(from: &mut impl Read, to: &mut impl Write, path: &Path) -> Result<(), CommandError> {
    let mut chunk = vec![0; 64 * 1024];
    loop {
        match from.read(&mut chunk).map_err(|error| unreadable(path, &error))? {
            0 => return Ok(()),
            count => {
                to.write_all(&chunk[..count]).map_err(|error| CommandError::unwritable(&error))?;
            }
        }
    }
}

/// Returns the name in the zip archive, without a leading `./`. `None` if it leads out of its folder.
fn safe_name(name: &str) -> Option<String> {
    let name = name.strip_prefix("./").unwrap_or(name);
    let is_safe = |part: &str| {
        !["", ".", ".."].contains(&part) && !part.contains('\\') && !part.contains(char::is_control)
    };
    name.split('/').all(is_safe).then(|| name.to_owned())
}

/// Returns a time for a zip archive: in UTC, so that every machine gives the same bytes. A time that a
/// zip archive cannot have becomes the nearest one.
fn zip_time(seconds: u64) -> DateTime {
    let time = i64::try_from(seconds).ok().and_then(|seconds| UtcTime::from_timestamp(seconds, 0));
    let latest = || DateTime::from_date_and_time(2107, 12, 31, 23, 59, 58).unwrap_or_default();
    let Some(time) = time else { return latest() };
    let part = |number: u32| u8::try_from(number).unwrap_or_default();
    match u16::try_from(time.year()) {
        Ok(year @ 1980..=2107) => {
            let (month, day) = (part(time.month()), part(time.day()));
            let (hour, minute, second) =
                (part(time.hour()), part(time.minute()), part(time.second()));
            DateTime::from_date_and_time(year, month, day, hour, minute, second).unwrap_or_default()
        }
        Ok(year) if year < 1980 => DateTime::default(),
        _ => latest(),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use flate2::Compression;
    use flate2::write::GzEncoder;
    use sha2::{Digest as _, Sha256};

    use super::*;
    use crate::upload::digest;

    /// An entry of a tarball: its name, type, mode, time and content.
    type Entry<'a> = (&'a str, EntryType, u32, u64, &'a [u8]);

    fn tarball(entries: &[Entry<'_>]) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        let mut tar = tar::Builder::new(GzEncoder::new(Vec::new(), Compression::fast()));
        for (name, kind, mode, time, content) in entries {
            let mut header = tar::Header::new_gnu();
            // `set_path` refuses the names that these tests need.
            header.as_mut_bytes()[..name.len()].copy_from_slice(name.as_bytes());
            header.set_entry_type(*kind);
            header.set_mode(*mode);
            header.set_mtime(*time);
            header.set_size(content.len() as u64);
            if kind.is_symlink() || kind.is_hard_link() {
                header.set_link_name("provider").unwrap();
            }
            header.set_cksum();
            tar.append(&header, Cursor::new(content)).unwrap();
        }
        let bytes = tar.into_inner().unwrap().finish().unwrap();
        std::fs::write(file.path(), bytes).unwrap();
        file
    }

    const FILE: EntryType = EntryType::Regular;

    #[test]
    fn a_tarball_with_anything_but_regular_files_in_it_is_refused() {
        let link = EntryType::Symlink;
        for (entries, expected) in [
            (&[("../provider", FILE, 0o755, 0, &b"x"[..])][..], "../provider"),
            (&[("/provider", FILE, 0o755, 0, b"x")], "/provider"),
            (&[("a/../../b", FILE, 0o755, 0, b"x")], "a/../../b"),
            (&[("a\\b", FILE, 0o755, 0, b"x")], "b"),
            (&[("provider", FILE, 0o755, 0, b"x"), ("link", link, 0o777, 0, b"")], "link"),
            (
                &[("provider", FILE, 0o755, 0, b"x"), ("hard", EntryType::Link, 0o777, 0, b"")],
                "hard",
            ),
            (&[("provider", FILE, 0o4755, 0, b"x")], "set-user-id"),
            (&[("device", EntryType::Char, 0o777, 0, b"")], "device"),
            (&[("pipe", EntryType::Fifo, 0o777, 0, b"")], "pipe"),
            (&[("a", FILE, 0o755, 0, b"x"), ("./a", FILE, 0o755, 0, b"y")], "a"),
        ] {
            let file = tarball(entries);
            let error = repack(file.path()).unwrap_err();
            assert!(
                error.is_refusal() && error.message().contains(expected),
                "{entries:?}: {error}"
            );
        }
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "no tarball").unwrap();
        assert!(repack(file.path()).is_err());
    }

    #[test]
    fn a_full_disk_is_an_error_that_says_how_to_use_another_one() {
        struct Full;
        impl Write for Full {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(io::ErrorKind::StorageFull.into())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let error = copy(&mut &b"x"[..], &mut Full, Path::new("dns.tar.gz")).unwrap_err();
        assert!(!error.is_refusal(), "{error}");
        assert!(error.to_string().contains("hint: set `TMPDIR`"), "{error}");
    }

    #[test]
    fn the_same_tarball_gives_the_same_bytes_and_keeps_modes_and_times() {
        let entries = [
            ("./terraform-provider-dns_v1.2.0", FILE, 0o755, 1_700_000_001, &b"binary"[..]),
            ("docs/", EntryType::Directory, 0o755, 0, b""),
            ("docs/README.md", FILE, 0o640, 0, b"text"),
        ];
        let file = tarball(&entries);
        let (mut first, mut second) = (repack(file.path()).unwrap(), repack(file.path()).unwrap());
        assert_eq!(digest(&mut first).unwrap(), digest(&mut second).unwrap());
        let mut archive = zip::ZipArchive::new(first).unwrap();
        let mut found = Vec::new();
        for at in 0..archive.len() {
            let mut entry = archive.by_index(at).unwrap();
            let mut content = Vec::new();
            entry.read_to_end(&mut content).unwrap();
            let time = entry.last_modified().unwrap().to_string();
            let name = entry.name().unwrap().into_owned();
            found.push((name, entry.unix_mode(), time, content));
        }
        let expected = [
            ("terraform-provider-dns_v1.2.0", 0o100_755, "2023-11-14 22:13:20", &b"binary"[..]),
            ("docs/README.md", 0o100_640, "1980-01-01 00:00:00", b"text"),
        ];
        let expected: Vec<_> = expected
            .map(|(name, mode, time, content)| {
                (name.to_owned(), Some(mode), time.to_owned(), content.to_vec())
            })
            .into();
        assert_eq!(found, expected);
    }

    #[test]
    fn the_bytes_of_a_repacked_tarball_stay_the_same_between_releases() {
        // A client has the digest in its lock file. Another compression would be another file, so that
        // nobody could publish a platform again with a new release of this program.
        let content: String = (0..4_000_u32)
            .map(|n| format!("{n} {}\n", hex::encode(Sha256::digest(n.to_be_bytes()))))
            .collect();
        let file = tarball(&[("provider", FILE, 0o755, 1_700_000_000, content.as_bytes())]);
        let mut zip = repack(file.path()).unwrap();
        let expected = "d8bdb3b382558346a7a756b558b520ec7fe0339bb59d853e0f0e7c7a2c80884e";
        assert_eq!(digest(&mut zip).unwrap(), expected);
    }

    #[test]
    fn a_time_that_a_zip_archive_cannot_have_becomes_the_nearest_one() {
        for (seconds, expected) in [
            (0, "1980-01-01 00:00:00"),
            (1_700_000_000, "2023-11-14 22:13:20"),
            (4_354_819_200, "2107-12-31 23:59:58"),
            (u64::MAX, "2107-12-31 23:59:58"),
        ] {
            assert_eq!(zip_time(seconds).to_string(), expected, "{seconds}");
        }
    }
}
