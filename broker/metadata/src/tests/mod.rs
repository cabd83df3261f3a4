//! Tests of the reading: bad input first, and then whole modules with their golden files.

mod bad_input;
mod golden;
mod hostile;

use std::fs::File;
use std::io::{Seek as _, Write as _};
use std::time::Duration;

use stile_core::package::Format;
use stile_core::package::archive::ArchiveLimits;

use crate::fuzz::{from_files, split};
use crate::{Limits, Metadata};

/// The limits, with so much time that a slow machine changes nothing.
fn limits() -> Limits {
    let time = Duration::from_secs(3_600);
    let limits = Limits::default();
    Limits { time, archive: ArchiveLimits { time, ..limits.archive }, ..limits }
}

/// Reads files that are written one after the other, each below a line `-- PATH --`.
fn read_files(text: &str) -> Metadata {
    from_files(&split(text.as_bytes()), &limits())
}

/// Reads one file with this path.
fn read_file(path: &str, content: impl AsRef<[u8]>) -> Metadata {
    from_files(&[(path.to_owned(), content.as_ref().to_vec())], &limits())
}

/// Returns the warnings as text.
fn warnings(metadata: &Metadata) -> Vec<String> {
    metadata.warnings.iter().map(ToString::to_string).collect()
}

/// Returns the names of the root's inputs.
fn inputs(metadata: &Metadata) -> Vec<&str> {
    metadata.root.inputs.iter().map(|input| input.name.as_str()).collect()
}

/// Packs files into an archive.
fn packed(files: &[(String, Vec<u8>)], format: Format) -> File {
    let bytes = match format {
        Format::Zip => {
            let mut zip = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
            for (path, content) in files {
                zip.start_file(path, zip::write::SimpleFileOptions::default()).unwrap();
                zip.write_all(content).unwrap();
            }
            zip.finish().unwrap().into_inner()
        }
        Format::TarGz => {
            let gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            let mut tar = tar::Builder::new(gzip);
            for (path, content) in files {
                let mut header = tar::Header::new_gnu();
                header.set_size(content.len() as u64);
                header.set_mode(0o644);
                tar.append_data(&mut header, path, content.as_slice()).unwrap();
            }
            tar.into_inner().unwrap().finish().unwrap()
        }
    };
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(&bytes).unwrap();
    file.rewind().unwrap();
    file
}
