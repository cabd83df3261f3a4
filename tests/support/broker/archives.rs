//! Creates archives of modules for tests: a small one with a given output, and large ones of an
//! exact length.

use serde_json::json;

/// Creates a valid zip of exactly that many bytes. Zips of different lengths have different
/// checksums.
pub fn large_zip(bytes: usize) -> Vec<u8> {
    use std::io::Write;
    let stored =
        zip::write::SimpleFileOptions::default().compression_method(zip::CompressionMethod::Stored);
    let with = |filling: usize| {
        let mut zip = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
        zip.start_file("main.tf", stored).unwrap();
        zip.start_file("filling", stored).unwrap();
        zip.write_all(&vec![b'x'; filling]).unwrap();
        zip.finish().unwrap().into_inner()
    };
    let archive = with(bytes - with(0).len());
    assert_eq!(archive.len(), bytes);
    archive
}

/// Creates a zip with one Terraform file, which outputs that text.
pub fn module_zip(says: &str) -> Vec<u8> {
    use std::io::Write;
    let mut zip = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    zip.start_file("main.tf", zip::write::SimpleFileOptions::default()).unwrap();
    writeln!(zip, "output \"says\" {{\n  value = {}\n}}", json!(says)).unwrap();
    zip.finish().unwrap().into_inner()
}
