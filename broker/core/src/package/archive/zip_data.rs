//! Reads the data of a zip entry, and checks that one whole deflate stream fills it.
//!
//! The library ignores what follows the end of the stream, and `bsdtar` rejects it. The library also
//! accepts a stream without an end, and Go rejects it.

use std::io::{self, BufRead, BufReader, Read};

use flate2::{CrcReader, Decompress, FlushDecompress, Status};

use super::ArchiveError;
use super::listing::Listing;

/// The data of an entry, as the directory describes it.
pub(super) struct EntryData {
    /// Where the data starts.
    pub(super) at: u64,
    pub(super) is_deflated: bool,
    /// The length in the archive.
    pub(super) packed: u64,
    /// The length of the content.
    pub(super) size: u64,
    pub(super) crc: u32,
}

impl EntryData {
    /// Unpacks the data without writing it anywhere, and checks its size and checksum. Returns what
    /// [`Listing::measure`] returns.
    pub(super) fn check(
        &self,
        name: &str,
        packed: impl Read,
        listing: &mut Listing<'_>,
    ) -> Result<[u8; 32], ArchiveError> {
        let rejected = |problem: &str| Err(ArchiveError::entry(name, problem));
        let (sha256, checksum) = if self.is_deflated {
            let mut content = CrcReader::new(Inflated::new(BufReader::new(packed)));
            let sha256 = listing.measure(name, self.size, &mut content)?;
            let (checksum, stream) = (content.crc().sum(), content.into_inner());
            if !stream.has_ended {
                return rejected("is truncated");
            }
            if stream.inflate.total_in() != self.packed {
                return rejected("has data after the end of its deflate stream");
            }
            (sha256, checksum)
        } else {
            let mut content = CrcReader::new(packed);
            let sha256 = listing.measure(name, self.size, &mut content)?;
            (sha256, content.crc().sum())
        };
        if checksum == self.crc { Ok(sha256) } else { rejected("is damaged") }
    }
}

/// The content of a deflate stream (RFC 1951). It ends where the stream or the data ends.
struct Inflated<R> {
    packed: R,
    inflate: Decompress,
    has_ended: bool,
}

impl<R: BufRead> Inflated<R> {
    fn new(packed: R) -> Self {
        Self { packed, inflate: Decompress::new(false), has_ended: false }
    }
}

impl<R: BufRead> Read for Inflated<R> {
    /// Returns [`io::ErrorKind::Interrupted`] after input without content, so that the caller can check
    /// its deadline: empty blocks of deflate give no content however many they are.
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.has_ended || buffer.is_empty() {
            return Ok(0);
        }
        let input = self.packed.fill_buf()?;
        let is_last = input.is_empty();
        let (read, written) = (self.inflate.total_in(), self.inflate.total_out());
        let status = self
            .inflate
            .decompress(input, buffer, FlushDecompress::None)
            .map_err(|_| io::ErrorKind::InvalidData)?;
        let read = self.inflate.total_in() - read;
        let written = self.inflate.total_out() - written;
        self.packed.consume(usize::try_from(read).map_err(io::Error::other)?);
        self.has_ended = status == Status::StreamEnd;
        if written == 0 && !is_last && !self.has_ended {
            return Err(io::ErrorKind::Interrupted.into());
        }
        usize::try_from(written).map_err(io::Error::other)
    }
}
