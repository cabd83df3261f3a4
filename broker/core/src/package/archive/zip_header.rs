//! Accepts a header of a zip entry only in a form that every program reads in the same way.
//!
//! An entry has two headers, one before its data and one in the directory. The rules are the same
//! for both.

use flate2::Crc;

use super::ArchiveError;

/// The highest version of a reader that an entry may need: 4.5, for zip64 (APPNOTE 4.4.3).
///
/// `unzip` skips entries above 4.6, Python fails above 6.3, and Go ignores the version.
const MAX_VERSION: u16 = 45;

/// The flags that every program reads in the same way: the level of deflate (bits 1 and 2), a data
/// descriptor (3), and a name in UTF-8 (11).
const KNOWN_FLAGS: u16 = 0b1000_0000_1110;

/// The flag of a name in UTF-8 (APPNOTE 4.4.4, bit 11).
const UTF8_FLAG: u16 = 1 << 11;

/// The id of the extra field with the sizes and the position of an entry in zip64 (APPNOTE 4.5.3).
const ZIP64: u16 = 1;

/// The id of the extra field with a second name, in UTF-8 (APPNOTE 4.6.9).
const UNICODE_PATH: u16 = 0x7075;

/// The parts of a header that programs read differently.
pub(super) struct EntryHeader<'a> {
    /// The version that a reader needs.
    pub(super) needs: u16,
    pub(super) flags: u16,
    /// Whether a data descriptor follows the data of the entry.
    pub(super) is_described: bool,
    pub(super) name: &'a [u8],
    pub(super) extra: &'a [u8],
}

impl EntryHeader<'_> {
    /// Checks the header. `name` is the name of its entry for messages.
    pub(super) fn check(&self, name: &str) -> Result<(), ArchiveError> {
        let rejected = |problem: &str| Err(ArchiveError::entry(name, problem));
        if self.flags & !KNOWN_FLAGS != 0 {
            return rejected("has flags that programs read differently");
        }
        if self.needs > MAX_VERSION {
            return Err(ArchiveError::entry(
                name,
                format_args!(
                    "needs version {}.{} of a reader, but 4.5 is the latest that every program has",
                    self.needs / 10,
                    self.needs % 10
                ),
            ));
        }
        if !self.name.is_ascii() && self.flags & UTF8_FLAG == 0 {
            let problem = "has a name with other characters than ASCII and without the flag for UTF-8, so that programs read it differently";
            return Err(ArchiveError::entry(name, problem).or_hint(
                "use only ASCII in names, pack a `.tar.gz`, or let `stile-admin module publish FOLDER` pack the folder",
            ));
        }
        if ends_in_version(self.name) {
            return rejected("has a name that ends in `;` and digits, which `unzip` removes");
        }
        self.check_extra(name)
    }

    fn check_extra(&self, name: &str) -> Result<(), ArchiveError> {
        let rejected = |problem: &str| Err(ArchiveError::entry(name, problem));
        let (mut zip64_fields, mut paths) = (0, 0);
        for field in ExtraFields(self.extra) {
            // Go and Python reject some such entries that other programs read.
            let Some((id, data)) = field else { return rejected("has a damaged extra field") };
            match id {
                ZIP64 => zip64_fields += 1,
                UNICODE_PATH if !self.is_own_path(data) => return rejected("has two names"),
                UNICODE_PATH => paths += 1,
                _ => {}
            }
        }
        // Some programs use the first of two fields, and some the last.
        if zip64_fields > 1 {
            return rejected("has two zip64 fields");
        }
        if paths > 1 {
            return rejected("has two names");
        }
        // `unzip` reads 8 bytes too many there, and takes the next entry for a part of this one.
        if paths > 0 && self.is_described {
            return rejected("has a second name and a data descriptor, which `unzip` rejects");
        }
        Ok(())
    }

    /// Returns whether a field with a second name has the name of the header itself.
    ///
    /// Python ignored the field for long, and others ignore it if its checksum or version is wrong.
    fn is_own_path(&self, data: &[u8]) -> bool {
        let mut crc = Crc::new();
        crc.update(self.name);
        data == [&[1][..], &crc.sum().to_le_bytes(), self.name].concat()
    }
}

/// Returns whether `unzip` shortens a name: it takes a number after `;` for the version of VMS.
fn ends_in_version(name: &[u8]) -> bool {
    let last = name.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
    let version = last.iter().rposition(|byte| *byte == b';').map(|at| &last[at + 1..]);
    version.is_some_and(|version| version.iter().all(u8::is_ascii_digit))
}

/// The extra fields of a header: the id and data of each. `None` is a field that does not fit into its
/// area, and the last item.
struct ExtraFields<'a>(&'a [u8]);

impl<'a> Iterator for ExtraFields<'a> {
    type Item = Option<(u16, &'a [u8])>;

    fn next(&mut self) -> Option<Self::Item> {
        let area = std::mem::take(&mut self.0);
        if area.is_empty() {
            return None;
        }
        let [first, second, low, high, rest @ ..] = area else { return Some(None) };
        let length = usize::from(u16::from_le_bytes([*low, *high]));
        let Some((data, rest)) = rest.split_at_checked(length) else { return Some(None) };
        self.0 = rest;
        Some(Some((u16::from_le_bytes([*first, *second]), data)))
    }
}
