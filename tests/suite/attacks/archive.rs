//! Builds the archives of the corpus: a good `main.tf`, and then the entries of the input.

use stile_tests::raw_archive::raw_tar::{TarForm, append, gzip};
use stile_tests::raw_archive::raw_zip::{RawZip, ZipMember};

use super::file::{Entry, Form, Input};

/// Returns the body that an input publishes, an archive or a source, and its media type.
pub(super) fn of(input: &Input) -> Option<(Vec<u8>, &'static str)> {
    if let Some(source) = &input.source {
        let body = serde_json::json!({ "source": source });
        return Some((body.to_string().into_bytes(), "application/json"));
    }
    match (input.zip.as_slice(), input.tar.as_slice()) {
        ([], []) => None,
        (entries, []) => Some((zip(entries), "application/zip")),
        ([], entries) => Some((tar_gz(entries), "application/gzip")),
        _ => panic!("an input has one archive"),
    }
}

fn zip(entries: &[Entry]) -> Vec<u8> {
    let member = |entry: &Entry| {
        let content: &[u8] = if entry.name.ends_with('/') { b"" } else { b"x" };
        let mut member = ZipMember::new(&entry.name, content);
        if let Some(mode) = entry.mode {
            member = member.mode(mode);
        }
        member.both(|header| {
            header.flags = entry.flags.unwrap_or(header.flags);
            header.needs = entry.needs.unwrap_or(header.needs);
        });
        member
    };
    let first = ZipMember::new("main.tf", b"locals {}\n");
    RawZip::of(std::iter::once(first).chain(entries.iter().map(member)).collect()).bytes()
}

fn tar_gz(entries: &[Entry]) -> Vec<u8> {
    let mut archive = Vec::new();
    append(&mut archive, TarForm::Posix.header("main.tf", b'0', 0o644, 1), b"x");
    for entry in entries {
        let form = match entry.form {
            Form::Posix => TarForm::Posix,
            Form::Gnu => TarForm::Gnu,
            Form::V7 => TarForm::V7,
        };
        let is_folder = entry.name.ends_with('/');
        let (kind, mode) = if is_folder { (b'5', 0o755) } else { (b'0', 0o644) };
        let data: &[u8] = if is_folder { b"" } else { b"x" };
        let mut header = form.header(&entry.name, kind, entry.mode.unwrap_or(mode), data.len());
        for (at, text) in &entry.bytes {
            header[*at..*at + text.len()].copy_from_slice(text.as_bytes());
        }
        append(&mut archive, header, data);
    }
    archive.resize(archive.len() + 1_024, 0);
    gzip(&archive)
}
