//! Compresses ready-made documents, and limits them to the size of a row.

use std::io::{Read, Write};

use flate2::Compression;
use flate2::read::DeflateDecoder;
use flate2::write::DeflateEncoder;

/// Maximum size of a compressed document, in bytes.
///
/// DynamoDB accepts rows of up to 400 KB, including names and keys. A larger row would fail at
/// every later write, with an error that no one can act on. This limit rejects the change earlier,
/// with a clear message.
pub(super) const MAX_COMPRESSED: usize = 380_000;

/// Maximum size of a decompressed document, in bytes: thirty times the largest one that this
/// program can write.
const MAX_DECOMPRESSED: u64 = 64 * 1024 * 1024;

/// Compresses a document. `None` if the result is larger than [`MAX_COMPRESSED`].
pub(super) fn compress(document: &[u8]) -> Option<Vec<u8>> {
    let mut encoder = DeflateEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(document).ok()?;
    encoder.finish().ok().filter(|compressed| compressed.len() <= MAX_COMPRESSED)
}

/// Decompresses a document. `None` if the input is malformed or too large.
pub(super) fn decompress(compressed: &[u8]) -> Option<Vec<u8>> {
    let mut document = Vec::new();
    let read =
        DeflateDecoder::new(compressed).take(MAX_DECOMPRESSED).read_to_end(&mut document).ok()?;
    (u64::try_from(read).ok()? < MAX_DECOMPRESSED).then_some(document)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_document_is_decompressed_as_it_was_and_one_that_is_too_large_is_rejected() {
        for document in [b"".to_vec(), b"{}".to_vec(), vec![b'x'; 1_000_000]] {
            assert_eq!(decompress(&compress(&document).unwrap()).unwrap(), document);
        }
        let random = |length: usize| {
            let mut bytes = vec![0; length];
            getrandom::fill(&mut bytes).unwrap();
            bytes
        };
        assert!(compress(&random(MAX_COMPRESSED - 1000)).is_some());
        assert!(compress(&random(MAX_COMPRESSED + 1)).is_none());
        assert_eq!(decompress(b"\xff\xff"), None);
        assert_eq!(decompress(&compress(&random(1000)).unwrap()[..500]), None);
    }
}
