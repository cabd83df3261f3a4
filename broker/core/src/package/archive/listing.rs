//! Collects the entries of an archive: checks every name and counts every unpacked byte.

use std::cmp::Ordering;
use std::collections::HashMap;
use std::io::{self, Read};

use icu_normalizer::DecomposingNormalizerBorrowed;

use sha2::{Digest, Sha256};

use super::{ArchiveContents, ArchiveError, ArchiveLimits, ArchivedFile, Deadline, FileContent};

/// Maximum length of an entry's path in bytes. The limit of operating systems is 4,096 or less.
const MAX_PATH_LEN: usize = 1_024;

/// Maximum length of one part of a path in bytes, which is the limit of file systems.
const MAX_PART_LEN: usize = 255;

/// Maximum number of parts of a path. With [`MAX_PATH_LEN`], it bounds the cost of hostile names.
const MAX_DEPTH: usize = 32;

/// The kind of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum EntryKind {
    File,
    Folder,
    /// A folder without an entry of its own: only the path of another entry contains it.
    Implied,
}

/// Returns how many bytes of a file the caller wants, or `None` if it does not want the file.
pub(super) type Wants<'a> = dyn FnMut(&ArchivedFile) -> Option<usize> + 'a;

/// A file whose content the caller wants, while it is unpacked.
struct OpenFile {
    file: FileContent,
    limit: usize,
}

impl OpenFile {
    fn append(&mut self, chunk: &[u8]) {
        let free = self.limit.saturating_sub(self.file.content.len());
        self.file.content.extend_from_slice(&chunk[..free.min(chunk.len())]);
    }
}

/// A file with the hash of its content.
pub(super) struct HashedFile {
    /// The name as the archive has it.
    pub(super) name: String,
    /// The mode, if the file was packed on a system with modes.
    pub(super) mode: Option<u32>,
    pub(super) sha256: [u8; 32],
}

/// The entries of an archive so far, with their total size.
pub(super) struct Listing<'a> {
    limits: &'a ArchiveLimits,
    deadline: Deadline,
    entries: usize,
    files: usize,
    unpacked_bytes: u64,
    /// The path and kind of each entry, by the path in one case and one normal form. Two entries with
    /// the same key are one file on macOS or Windows.
    paths: HashMap<String, (String, EntryKind)>,
    /// The files, if the caller asked for them.
    listed: Option<Vec<ArchivedFile>>,
    /// Which files the caller wants to read, if any.
    wants: Option<&'a mut Wants<'a>>,
    /// The file that is unpacked next, if the caller wants it.
    open: Option<OpenFile>,
    contents: Vec<FileContent>,
    /// The files with their hashes, if the caller asked for them.
    hashed: Option<Vec<HashedFile>>,
}

impl<'a> Listing<'a> {
    pub(super) fn new(limits: &'a ArchiveLimits) -> Self {
        Self {
            limits,
            deadline: Deadline::after(limits.time),
            entries: 0,
            files: 0,
            unpacked_bytes: 0,
            paths: HashMap::new(),
            listed: None,
            wants: None,
            open: None,
            contents: Vec::new(),
            hashed: None,
        }
    }

    /// Creates a listing that also hashes the content of each file.
    pub(super) fn with_hashes(limits: &'a ArchiveLimits) -> Self {
        Self { hashed: Some(Vec::new()), ..Self::new(limits) }
    }

    /// Adds a file whose content was measured and hashed, if the caller asked for hashes.
    pub(super) fn add_hashed(&mut self, name: &[u8], mode: Option<u32>, sha256: [u8; 32]) {
        if let Some(hashed) = &mut self.hashed {
            // The name is UTF-8, or the listing rejected it before.
            let name = String::from_utf8_lossy(name).into_owned();
            hashed.push(HashedFile { name, mode, sha256 });
        }
    }

    pub(super) fn take_hashed(&mut self) -> Vec<HashedFile> {
        self.hashed.take().unwrap_or_default()
    }

    /// Returns the path of a folder that has an entry of its own, if there is one.
    pub(super) fn folder(&self) -> Option<&str> {
        let mut paths = self.paths.values();
        paths.find(|(_, kind)| *kind == EntryKind::Folder).map(|(path, _)| path.as_str())
    }

    /// Creates a listing that also collects the files.
    pub(super) fn with_files(limits: &'a ArchiveLimits) -> Self {
        Self { listed: Some(Vec::new()), ..Self::new(limits) }
    }

    /// Creates a listing that also collects the content of the files that the caller wants.
    pub(super) fn with_contents(limits: &'a ArchiveLimits, wants: &'a mut Wants<'a>) -> Self {
        Self { wants: Some(wants), ..Self::new(limits) }
    }

    /// Takes note of a file that is measured next, if the caller asked for files.
    pub(super) fn begin_file(&mut self, name: &[u8], bytes: u64) {
        if self.listed.is_none() && self.wants.is_none() {
            return;
        }
        let path = String::from_utf8_lossy(name);
        let path = path.strip_prefix("./").unwrap_or(&path).to_owned();
        let file = ArchivedFile { path, bytes };
        if let Some(limit) = self.wants.as_mut().and_then(|wants| wants(&file)) {
            let file = FileContent { file: file.clone(), content: Vec::new() };
            self.open = Some(OpenFile { file, limit });
        }
        if let Some(listed) = &mut self.listed {
            listed.push(file);
        }
    }

    pub(super) fn take_contents(&mut self) -> Vec<FileContent> {
        std::mem::take(&mut self.contents)
    }

    pub(super) fn take_files(&mut self) -> Vec<ArchivedFile> {
        self.listed.take().unwrap_or_default()
    }

    pub(super) const fn limits(&self) -> &'a ArchiveLimits {
        self.limits
    }

    pub(super) const fn deadline(&self) -> Deadline {
        self.deadline
    }

    /// Counts one entry against the limit.
    pub(super) fn count_entry(&mut self) -> Result<(), ArchiveError> {
        self.deadline.check()?;
        self.entries += 1;
        if self.entries > self.limits.entries { Err(self.too_many()) } else { Ok(()) }
    }

    pub(super) fn too_many(&self) -> ArchiveError {
        ArchiveError::archive(format_args!(
            "has more than {} entries, including folders",
            self.limits.entries
        ))
    }

    /// Adds an entry if its name is valid, and returns the name for messages.
    pub(super) fn add(&mut self, name: &[u8], kind: EntryKind) -> Result<String, ArchiveError> {
        self.count_entry()?;
        let printable = printable(name);
        let rejected = |problem| ArchiveError::entry(&printable, problem);
        let name =
            std::str::from_utf8(name).map_err(|_| rejected("has a name that is not UTF-8"))?;
        let parts = parts(name, kind).map_err(rejected)?;
        let (mut path, mut folded) = (String::new(), String::new());
        for (at, part) in parts.iter().enumerate() {
            if at > 0 {
                path.push('/');
                folded.push('/');
            }
            path.push_str(part);
            folded.push_str(&fold(part));
            self.record(
                &path,
                &folded,
                if at + 1 < parts.len() { EntryKind::Implied } else { kind },
            )?;
        }
        self.files += usize::from(kind == EntryKind::File);
        Ok(printable)
    }

    fn record(&mut self, path: &str, folded: &str, kind: EntryKind) -> Result<(), ArchiveError> {
        let Some((there, is)) = self.paths.get_mut(folded) else {
            if self.paths.len() >= self.limits.entries {
                return Err(self.too_many());
            }
            self.paths.insert(folded.to_owned(), (path.to_owned(), kind));
            return Ok(());
        };
        let rejected =
            |problem: &str| Err(ArchiveError::entry(&printable(path.as_bytes()), problem));
        if there != path {
            let twin = printable(there.as_bytes());
            if normal_form(there) == normal_form(path) {
                return rejected(&format!(
                    "differs only by its Unicode normal form from `{twin}`, so both are one file on macOS"
                ));
            }
            return rejected(&format!(
                "differs only by case from `{twin}`, so both are one file on macOS and Windows"
            ));
        }
        match (*is, kind) {
            (EntryKind::Implied, EntryKind::Folder) => *is = EntryKind::Folder,
            (EntryKind::Implied | EntryKind::Folder, EntryKind::Implied) => {}
            (EntryKind::File, EntryKind::File) | (EntryKind::Folder, EntryKind::Folder) => {
                return rejected("appears twice");
            }
            _ => return rejected("is both a file and a folder"),
        }
        Ok(())
    }

    /// Unpacks a file without writing it anywhere, and checks its size against the declared size.
    /// Returns the SHA-256 of the content, or zeros if the caller did not ask for hashes.
    pub(super) fn measure(
        &mut self,
        name: &str,
        declared: u64,
        from: &mut impl Read,
    ) -> Result<[u8; 32], ArchiveError> {
        let mut hash = self.hashed.is_some().then(Sha256::new);
        let mut buffer = vec![0; 32 * 1_024];
        let mut size = 0_u64;
        let mut open = self.open.take();
        loop {
            let read = from.read(&mut buffer);
            self.deadline.check()?;
            let count = match read {
                Ok(0) => break,
                Ok(count) => {
                    if let Some(open) = &mut open {
                        open.append(&buffer[..count]);
                    }
                    if let Some(hash) = &mut hash {
                        hash.update(&buffer[..count]);
                    }
                    count as u64
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(_) => return Err(ArchiveError::entry(name, "is damaged")),
            };
            size += count;
            self.unpacked_bytes += count;
            if self.unpacked_bytes > self.limits.unpacked_bytes {
                return Err(ArchiveError::entry(
                    name,
                    format_args!("makes the archive too large: {}", self.too_large()),
                ));
            }
        }
        match size.cmp(&declared) {
            Ordering::Equal => {
                self.contents.extend(open.map(|open| open.file));
                Ok(hash.map(|hash| hash.finalize().into()).unwrap_or_default())
            }
            Ordering::Less => Err(ArchiveError::entry(name, "is truncated")),
            Ordering::Greater => Err(ArchiveError::entry(name, "is damaged")),
        }
    }

    pub(super) fn too_large(&self) -> String {
        format!("it must unpack to at most {} bytes", self.limits.unpacked_bytes)
    }

    /// Returns the number and size of the files, if the archive contains a module.
    pub(super) fn finish(self) -> Result<ArchiveContents, ArchiveError> {
        let files = || {
            self.paths
                .values()
                .filter(|(_, kind)| *kind == EntryKind::File)
                .map(|(path, _)| path.as_str())
        };
        let below = files().filter(|path| is_terraform(path)).collect::<Vec<_>>();
        let nested =
            |path: &&str| path.strip_prefix("modules/").is_some_and(|rest| rest.contains('/'));
        if below.iter().any(|path| !path.contains('/') || nested(path)) {
            return Ok(ArchiveContents { files: self.files, unpacked_bytes: self.unpacked_bytes });
        }
        let mut tops: Vec<&str> = files()
            .filter_map(|path| path.split('/').next())
            .filter(|top| !is_metadata(top))
            .collect();
        tops.sort_unstable();
        tops.dedup();
        Err(match (below.is_empty(), tops.as_slice()) {
            (true, _) => ArchiveError::archive("has no `.tf` file").or_hint("send a Terraform module with its `.tf` files at the top level"),
            (false, [top]) => ArchiveError::archive(format_args!(
                "has no `.tf` file at the top level: all its files are in the folder `{}`",
                printable(top.as_bytes())
            ))
            .or_hint("pack the content of the folder instead of the folder, as in `tar -C FOLDER -czf module.tar.gz .`"),
            (false, _) => ArchiveError::archive("has no `.tf` file at the top level")
                .or_hint("put the module's files at the top level and its submodules in `modules/`"),
        })
    }
}

/// Returns a name as file systems compare it that ignore case and normal form (Unicode, D145).
fn fold(name: &str) -> String {
    let upper = normal_form(name).chars().flat_map(char::to_uppercase).collect::<String>();
    normal_form(&upper.chars().flat_map(char::to_lowercase).collect::<String>())
}

/// Returns a text in the normal form NFD, in which equivalent texts are equal.
fn normal_form(text: &str) -> String {
    DecomposingNormalizerBorrowed::new_nfd().normalize(text).into_owned()
}

/// Returns whether Windows has a device of that name, with and without an extension, in any folder.
fn is_device(part: &str) -> bool {
    let stem = part.split('.').next().unwrap_or(part).trim_end_matches(' ');
    let stem = stem.to_ascii_uppercase();
    let numbered = stem.strip_prefix("COM").or_else(|| stem.strip_prefix("LPT"));
    matches!(stem.as_str(), "CON" | "PRN" | "AUX" | "NUL" | "CONIN$" | "CONOUT$")
        || numbered.is_some_and(|number| {
            let mut number = number.chars();
            matches!(number.next(), Some('1'..='9' | '¹' | '²' | '³')) && number.next().is_none()
        })
}

/// Returns the parts of a path without a leading `./`.
///
/// It rejects a path that could lead outside the target folder on any operating system ("zip slip").
/// It never corrects a path, because another program could use the original path.
fn parts(name: &str, kind: EntryKind) -> Result<Vec<&str>, &'static str> {
    if name.is_empty() {
        return Err("has no name");
    }
    if name.len() > MAX_PATH_LEN {
        return Err("has a path of more than 1,024 bytes");
    }
    if name
        .chars()
        .any(|c| c.is_control() || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}'))
    {
        return Err("has a control character in its name");
    }
    if name.contains('\\') {
        return Err("has a `\\` in its name, which separates folders on Windows");
    }
    if name.contains(':') {
        return Err("has a `:` in its name, which marks a drive on Windows");
    }
    if name.contains(['<', '>', '"', '|', '?', '*']) {
        return Err("has one of `<>\"|?*` in its name, which Windows does not allow");
    }
    if name.starts_with('/') {
        return Err("has an absolute path");
    }
    let name =
        if kind == EntryKind::Folder { name.strip_suffix('/').unwrap_or(name) } else { name };
    let name = if name == "." { "" } else { name.strip_prefix("./").unwrap_or(name) };
    if name.is_empty() {
        return if kind == EntryKind::Folder { Ok(Vec::new()) } else { Err("has no name") };
    }
    let mut parts = Vec::new();
    for part in name.split('/') {
        match part {
            "" => return Err("has an empty part in its path"),
            ".." => return Err("has `..` in its path"),
            "." => return Err("has `.` in its path"),
            _ if part.ends_with(['.', ' ']) => {
                return Err(
                    "has a part in its path that ends in a dot or a space, which Windows removes",
                );
            }
            _ if is_device(part) => {
                return Err("has the name of a Windows device in its path");
            }
            _ if part.len() > MAX_PART_LEN => {
                return Err("has a part in its path of more than 255 bytes");
            }
            _ => parts.push(part),
        }
    }
    if parts.len() > MAX_DEPTH { Err("is more than 32 folders deep") } else { Ok(parts) }
}

/// Returns whether Terraform or OpenTofu reads the file as part of a module. They ignore hidden files.
fn is_terraform(path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or(path);
    !name.starts_with('.')
        && [".tf", ".tf.json", ".tofu", ".tofu.json"].iter().any(|ending| name.ends_with(ending))
}

/// Returns whether a packing program added the file or folder by itself.
fn is_metadata(top: &str) -> bool {
    top.starts_with('.') || top == "__MACOSX"
}

/// Prepares a name for a message: one line, at most 100 characters, no bidirectional controls.
pub(super) fn printable(name: &[u8]) -> String {
    let name = String::from_utf8_lossy(name);
    let plain = |c: char| {
        if c.is_control() || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '`') {
            '?'
        } else {
            c
        }
    };
    let mut short: String = name.chars().take(100).map(plain).collect();
    if short.len() < name.len() && name.chars().nth(100).is_some() {
        short.push('…');
    }
    short
}
