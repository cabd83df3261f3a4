//! The stored form of a version's metadata: JSON, compressed with gzip.

use std::io::{self, Read, Write};

use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;

use crate::StoreError;

/// Maximum length of metadata in bytes, several times what the broker writes.
const MAX_METADATA: u64 = 8 << 20;

/// Maximum length of compressed metadata in bytes.
pub(super) const MAX_COMPRESSED: u64 = 8 << 20;

/// Returns the file name of an archive's metadata.
pub(super) fn file_name(sha256: &str) -> String {
    format!("{sha256}.json.gz")
}

/// Compresses metadata.
pub(super) fn compress(json: &[u8]) -> Result<Vec<u8>, StoreError> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    let compressed = encoder.write_all(json).and_then(|()| encoder.finish());
    compressed.map_err(|error| StoreError::unavailable("cannot compress metadata", error))
}

/// Decompresses metadata. `name` is where it is stored, for messages.
pub(crate) fn decompress(compressed: &[u8], name: &str) -> Result<Vec<u8>, StoreError> {
    let corrupt = |error: io::Error| {
        StoreError::corrupt(format!("the metadata `{name}` is damaged")).caused_by(error)
    };
    let mut json = Vec::new();
    GzDecoder::new(compressed).take(MAX_METADATA + 1).read_to_end(&mut json).map_err(corrupt)?;
    if json.len() as u64 > MAX_METADATA {
        return Err(corrupt(io::Error::other("it is too long")));
    }
    Ok(json)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn damaged_or_too_long_metadata_is_corrupt() {
        let good = compress(b"{}").unwrap();
        assert_eq!(decompress(&good, "x").unwrap(), b"{}");
        let long = compress(&vec![b' '; 9 << 20]).unwrap();
        for bad in [b"".as_slice(), b"{}", &good[..good.len() - 1], &long] {
            let error = decompress(bad, "x").unwrap_err();
            assert_eq!(error.kind(), crate::StoreErrorKind::Corrupt, "{error}");
            assert!(error.to_string().contains("`x`"), "{error}");
        }
    }
}
