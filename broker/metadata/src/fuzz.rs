//! The fuzz target `module_files`: reads generated files of a module. Not part of the service.

use std::time::Instant;

use stile_core::fuzz::{Verdict, is_plain};
use stile_core::package::archive::ArchivedFile;

use crate::archive::Selection;
use crate::assemble::{SourceFile, assemble};
use crate::names::classify;
use crate::{Limits, Metadata};

/// Low limits, so that short inputs reach them.
fn limits() -> Limits {
    Limits {
        readme_bytes: 1 << 10,
        file_bytes: 8 << 10,
        total_bytes: 16 << 10,
        files: 12,
        folders: 4,
        blocks: 100,
        text_bytes: 256,
        output_bytes: 8 << 10,
        ..Limits::default()
    }
}

/// Reads the input as files: a line `-- PATH --` begins one. Without such a line it is `main.tf`,
/// or `main.tf.json` if it begins with `{`.
///
/// It accepts an input of which everything could be read.
pub fn module_files(bytes: &[u8]) -> Verdict {
    let limits = limits();
    let started = Instant::now();
    let metadata = from_files(&split(bytes), &limits);
    let seconds = started.elapsed().as_secs();
    assert!(seconds < 30, "took {seconds} seconds");
    for warning in &metadata.warnings {
        assert!(is_plain(&warning.message), "{warning:?}");
    }
    let json = metadata.to_json().expect("metadata can be written");
    assert!(json.len() < 64 << 10, "{} bytes", json.len());
    assert_eq!(Metadata::from_json(&json).expect("metadata can be read"), metadata);
    let shape = metadata.registry_shape("name");
    assert!(shape.root.is_object() && shape.submodules.is_array() && shape.examples.is_array());
    if metadata.warnings.is_empty() { Verdict::Accepted } else { Verdict::Rejected }
}

/// Reads files as if they were in an archive.
pub(crate) fn from_files(files: &[(String, Vec<u8>)], limits: &Limits) -> Metadata {
    let mut selection = Selection::new(limits);
    let mut sources = Vec::new();
    for (path, content) in files {
        let file = ArchivedFile { path: path.clone(), bytes: content.len() as u64 };
        let Some(wanted) = selection.wants(&file) else { continue };
        let Some((folder, kind)) = classify(path) else { continue };
        let content = content[..wanted.min(content.len())].to_vec();
        let is_cut = (content.len() as u64) < file.bytes;
        sources.push(SourceFile { path: path.clone(), folder, kind, content, is_cut });
    }
    assemble(sources, selection.warnings, limits)
}

/// Splits a text into files, at lines of the form `-- PATH --`.
pub(crate) fn split(bytes: &[u8]) -> Vec<(String, Vec<u8>)> {
    let first = if bytes.starts_with(b"{") { "main.tf.json" } else { "main.tf" };
    let mut files = vec![(first.to_owned(), Vec::new())];
    for line in bytes.split_inclusive(|byte| *byte == b'\n') {
        let path = line.strip_prefix(b"-- ").and_then(|rest| rest.strip_suffix(b" --\n"));
        let path = path.and_then(|path| str::from_utf8(path).ok()).filter(|path| path.len() < 100);
        match (path, files.last_mut()) {
            (Some(path), _) => files.push((path.to_owned(), Vec::new())),
            (None, Some((_, content))) => content.extend_from_slice(line),
            (None, None) => {}
        }
    }
    files.retain(|(_, content)| !content.is_empty());
    files
}
