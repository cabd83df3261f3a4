//! Ready-made documents as they are kept: compressed, and never larger than a row can be.

use std::io::{Read, Write};

use flate2::Compression;
use flate2::read::DeflateDecoder;
use flate2::write::DeflateEncoder;

/// Largest document that is kept, in bytes, compressed.
///
/// DynamoDB takes rows of up to 400 KB, names and keys included. A write past that would fail for ever after with an
/// error nobody can act on; this is refused with a sentence before.
pub(super) const CEILING: usize = 380_000;

/// Largest document that is unfolded, in bytes; thirty times what any can be that was made here.
const UNFOLDED: u64 = 64 * 1024 * 1024;

/// Folds a document up; `None` where it would be larger than can be kept.
pub(super) fn fold(document: &[u8]) -> Option<Vec<u8>> {
    let mut encoder = DeflateEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(document).ok()?;
    encoder.finish().ok().filter(|folded| folded.len() <= CEILING)
}

/// Unfolds it; `None` where it is none.
pub(super) fn unfold(folded: &[u8]) -> Option<Vec<u8>> {
    let mut document = Vec::new();
    let read = DeflateDecoder::new(folded).take(UNFOLDED).read_to_end(&mut document).ok()?;
    (u64::try_from(read).ok()? < UNFOLDED).then_some(document)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_document_comes_back_and_one_that_is_too_large_is_refused() {
        for document in [b"".to_vec(), b"{}".to_vec(), vec![b'x'; 1_000_000]] {
            assert_eq!(unfold(&fold(&document).unwrap()).unwrap(), document);
        }
        let random = |length: usize| {
            let mut bytes = vec![0; length];
            getrandom::fill(&mut bytes).unwrap();
            bytes
        };
        assert!(fold(&random(CEILING - 1000)).is_some());
        assert!(fold(&random(CEILING + 1)).is_none());
        assert_eq!(unfold(b"\xff\xff"), None);
        assert_eq!(unfold(&fold(&random(1000)).unwrap()[..500]), None);
    }
}
