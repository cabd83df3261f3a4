//! Accepts a header of a tar archive only in a form that every program reads in the same way.
//!
//! Programs disagree about other headers. For example, Python's tarfile puts the access time of a GNU
//! header before the name, and Go ignores it.

use std::ops::Range;

use super::ArchiveError;
use super::listing::printable;

/// Length of a header, and of each block of data, in bytes.
const BLOCK_LEN: usize = 512;

const NAME: Range<usize> = 0..100;
const MODE: Range<usize> = 100..108;
const SIZE: Range<usize> = 124..136;
const CHECKSUM: Range<usize> = 148..156;
const KIND: usize = 156;

/// From the magic value to the end of the header. Version 7 has no fields here.
const AFTER_V7: Range<usize> = 257..512;

/// Magic value and version.
const MAGIC: Range<usize> = 257..265;

/// Numbers of the device, which POSIX and GNU share.
const DEVICE: [Range<usize>; 2] = [329..337, 337..345];

/// The numbers of the device as `tar --format=v7` of GNU writes them, after the end of a v7 header.
const V7_DEVICE: &[u8; 16] = b"0000000\x000000000\0";

/// After the prefix of a POSIX header, which has no fields here.
const AFTER_PREFIX: Range<usize> = 500..512;

/// The prefix of a POSIX header, and everything after it. GNU has its own fields here.
const PREFIX_AND_AFTER: Range<usize> = 345..512;

const PROBLEM: &str = "has a header that is neither plain POSIX, GNU nor v7, so that programs read it differently; pack it with `tar` and without `--incremental`";

/// Maximum size in bytes of the long names and extended headers of one entry.
///
/// It has space for the longest accepted path, times, and short extended attributes.
const MAX_EXTENSION_BYTES: u64 = 4 * 1_024;

/// Maximum size in bytes of all long names and extended headers, for each allowed entry.
///
/// Reading them costs more than other data: 146 KB of archive had enough of them for more than a second.
const MAX_EXTENSION_BYTES_PER_ENTRY: u64 = 512;

/// Follows the stream of a tar archive from header to header, and checks each header.
#[derive(Default)]
pub(super) struct HeaderCheck {
    block: Vec<u8>,
    /// How many bytes of the entry's data precede its padding.
    data: u64,
    /// How many bytes of padding precede the next header.
    padding: u64,
    /// Whether the data is a name or a record for the next entry. Python reads it with its padding.
    describes_next: bool,
    /// Whether the rest has no headers, or has one that the library or [`super::tar_gz`] rejects.
    stopped: bool,
    /// Whether a long name or a long link of GNU precedes the next entry.
    long: bool,
    /// Whether an extended header of POSIX precedes the next entry.
    extended: bool,
    /// The size of the long names and extended headers before the next entry.
    extension: u64,
    /// How many bytes of them may still come in the whole archive.
    extensions_left: u64,
}

impl HeaderCheck {
    /// Creates a check of an archive with at most this many entries.
    pub(super) fn new(entries: usize) -> Self {
        let extensions_left = MAX_EXTENSION_BYTES_PER_ENTRY.saturating_mul(entries as u64);
        Self { extensions_left, ..Self::default() }
    }

    /// Takes the next bytes of the stream, and returns the error for the first ambiguous header.
    pub(super) fn feed(&mut self, mut bytes: &[u8]) -> Result<(), ArchiveError> {
        while !bytes.is_empty() && !self.stopped {
            let (_, rest) = split(bytes, &mut self.data);
            let (padding, rest) = split(rest, &mut self.padding);
            if self.describes_next && !is_zero(padding) {
                return Err(ArchiveError::archive(
                    "has data after the end of a long name or an extended header",
                ));
            }
            let missing = BLOCK_LEN - self.block.len();
            let (taken, rest) = rest.split_at(missing.min(rest.len()));
            self.block.extend_from_slice(taken);
            bytes = rest;
            if self.block.len() == BLOCK_LEN {
                let block = std::mem::take(&mut self.block);
                self.header(&block)?;
            }
        }
        Ok(())
    }

    fn header(&mut self, block: &[u8]) -> Result<(), ArchiveError> {
        let kind = block[KIND];
        let known = matches!(kind, 0 | b'0' | b'5' | b'L' | b'K' | b'x' | b'g');
        if is_zero(block) || !has_valid_checksum(block) || !known {
            self.stopped = true;
            return Ok(());
        }
        // Python takes this for a folder, even if an extended header has another name.
        if kind == 0 && name(block).ends_with(b"/") {
            return Err(ambiguous(block));
        }
        let size = unambiguous_size(block).ok_or_else(|| ambiguous(block))?;
        self.data = size;
        self.padding = size.next_multiple_of(BLOCK_LEN as u64) - size;
        self.describes_next = matches!(kind, b'L' | b'K' | b'x' | b'g');
        self.count_extension(size)?;
        match kind {
            b'g' if self.long || self.extended => {
                return Err(ArchiveError::archive(
                    "has a global header between an entry and its own extended header",
                ));
            }
            b'g' => {}
            b'L' | b'K' => self.long = true,
            b'x' => self.extended = true,
            _ => (self.long, self.extended) = (false, false),
        }
        if self.long && self.extended { Err(ambiguous(block)) } else { Ok(()) }
    }

    /// Counts the data of a header against the limits, if it is for the next entry.
    fn count_extension(&mut self, size: u64) -> Result<(), ArchiveError> {
        if !self.describes_next {
            self.extension = 0;
            return Ok(());
        }
        let too_long = |problem| {
            Err(ArchiveError::archive(problem).or_hint(
                "pack it without extended attributes, as in `tar --no-xattrs`, or let `stile-admin module publish FOLDER` pack the folder",
            ))
        };
        self.extension = self.extension.saturating_add(size);
        if self.extension > MAX_EXTENSION_BYTES {
            return too_long(
                "has an entry with more than 4 KiB of long names and extended headers",
            );
        }
        match self.extensions_left.checked_sub(size) {
            None => too_long("has too many long names and extended headers"),
            Some(left) => {
                self.extensions_left = left;
                Ok(())
            }
        }
    }
}

/// Splits off as many of the wanted bytes as there are, and returns them and the rest.
fn split<'a>(bytes: &'a [u8], wanted: &mut u64) -> (&'a [u8], &'a [u8]) {
    let count = usize::try_from(*wanted).unwrap_or(usize::MAX).min(bytes.len());
    *wanted -= count as u64;
    bytes.split_at(count)
}

fn ambiguous(block: &[u8]) -> ArchiveError {
    ArchiveError::entry(&printable(name(block)), PROBLEM)
}

fn name(block: &[u8]) -> &[u8] {
    block[NAME].split(|byte| *byte == 0).next().unwrap_or_default()
}

/// Returns the size of the data, if the header has one of the three accepted forms.
fn unambiguous_size(block: &[u8]) -> Option<u64> {
    let fields = match &block[MAGIC] {
        b"ustar\x0000" => are_numbers(block, &DEVICE) && is_zero(&block[AFTER_PREFIX]),
        b"ustar  \0" => are_numbers(block, &DEVICE) && is_zero(&block[PREFIX_AND_AFTER]),
        _ => {
            let (before, rest) = block[AFTER_V7].split_at(DEVICE[0].start - AFTER_V7.start);
            let (device, after) = rest.split_at(V7_DEVICE.len());
            is_zero(before) && (is_zero(device) || device == V7_DEVICE) && is_zero(after)
        }
    };
    let owner_and_time = [108..116, 116..124, 136..148];
    octal(&block[MODE])?;
    octal(&block[CHECKSUM])?;
    octal(&block[SIZE]).filter(|_| fields && are_numbers(block, &owner_and_time))
}

/// Returns whether each field is empty, a number in octal, or a binary number as GNU writes it.
fn are_numbers(block: &[u8], fields: &[Range<usize>]) -> bool {
    fields.iter().map(|field| &block[field.clone()]).all(|field| {
        is_zero(field) || matches!(field.first(), Some(0x80 | 0xff)) || octal(field).is_some()
    })
}

/// Returns a number: spaces, octal digits, then only spaces and zero bytes.
///
/// Python also accepts signs, underscores and `0o`, and other programs stop at the first such byte.
fn octal(field: &[u8]) -> Option<u64> {
    let field = &field[field.iter().take_while(|byte| **byte == b' ').count()..];
    let digits = field.iter().take_while(|byte| matches!(byte, b'0'..=b'7')).count();
    let (digits, end) = field.split_at(digits);
    let whole = !digits.is_empty() && end.iter().all(|byte| matches!(byte, 0 | b' '));
    whole.then(|| digits.iter().fold(0, |number, digit| (number << 3) | u64::from(digit - b'0')))
}

fn is_zero(bytes: &[u8]) -> bool {
    bytes.iter().all(|byte| *byte == 0)
}

/// Returns whether the library accepts the checksum. It reads the field less strictly than [`octal`].
fn has_valid_checksum(block: &[u8]) -> bool {
    let sum: u32 = block
        .iter()
        .enumerate()
        .map(|(at, byte)| if CHECKSUM.contains(&at) { 32 } else { u32::from(*byte) })
        .sum();
    tar::Header::from_byte_slice(block).cksum().is_ok_and(|stated| stated == sum)
}
