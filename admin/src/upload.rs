//! Packs or opens a module's archive, inspects it, and sends it in chunks.

use std::fmt;
use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::channel::Channel;
use indicatif::ProgressBar;
use reqwest::header::{CONTENT_LENGTH, CONTENT_TYPE};
use reqwest::{Body, RequestBuilder};
use sha2::{Digest as _, Sha256};
use stile_core::package::archive::{ArchiveError, ArchiveLimits, ArchivedFile, inspect_and_list};
use stile_core::package::{Format, MAX_ARCHIVE};
use tokio::io::{AsyncReadExt as _, AsyncSeekExt as _};

use crate::api::{Api, ApiResponse};
use crate::error::CommandError;
use crate::fetch::Download;
use crate::pack::{ArchiveFindings, PackError, PackedFolder, Pattern, findings, pack};
use crate::progress::bar;

/// Timeout of an upload. It is longer than the broker's own timeout of 15 minutes.
pub(crate) const UPLOAD_TIMEOUT: Duration = Duration::from_secs(960);

/// Maximum number of skipped files in the notice.
const MAX_SKIPPED_SHOWN: usize = 50;

/// Size of a chunk in bytes.
const CHUNK: usize = 64 * 1024;

/// An archive that passed the same inspection as in the broker.
#[derive(Debug)]
pub(crate) struct Archive {
    file: File,
    format: Format,
    bytes: u64,
    sha256: String,
    files: Vec<ArchivedFile>,
    skipped: Vec<String>,
}

/// Prints one notice, for example with the module that it is about.
pub(crate) type PrintNotice<'a> = &'a dyn Fn(&str);

impl Archive {
    /// Packs a folder or opens a file, and inspects the archive before any network access.
    ///
    /// For a folder, it prints a notice with the skipped files. The patterns select files that it
    /// would skip or refuse.
    ///
    /// # Errors
    ///
    /// [`CommandError`], if the archive cannot be published, or if a file cannot be read.
    pub(crate) fn open(
        path: &Path,
        include: &[Pattern],
        print: PrintNotice<'_>,
    ) -> Result<Self, CommandError> {
        let subject = Subject(path.display().to_string());
        let metadata = std::fs::metadata(path).map_err(|error| subject.unreadable(&error))?;
        if metadata.is_dir() {
            let packed = pack(path, include).map_err(|error| pack_failure(&error))?;
            print_skipped(&packed, print);
            return Self::inspect(&subject, packed.file, Format::Zip, packed.skipped);
        }
        let hint = "use a folder, a `.zip` or a `.tar.gz`";
        // Opening a pipe would wait for a writer.
        if !metadata.is_file() {
            return Err(subject.refused("it is neither a file nor a folder").hint(hint));
        }
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let format = format_of(name)
            .ok_or_else(|| subject.unusable("its name has no archive extension").hint(hint))?;
        let file = File::open(path).map_err(|error| subject.unreadable(&error))?;
        Self::of_file(&subject, file, format, include, print)
    }

    /// Inspects an archive that was downloaded from a URL.
    ///
    /// # Errors
    ///
    /// As [`Self::open`].
    pub(crate) fn downloaded(
        download: Download,
        include: &[Pattern],
        print: PrintNotice<'_>,
    ) -> Result<Self, CommandError> {
        let Download { shown, mut file, name } = download;
        let subject = Subject(shown);
        let mut first = [0; 4];
        let format = match format_of(&name) {
            Some(format) => format,
            // The URL of a download need not end with the name of a file.
            None => {
                let read = file.read_exact(&mut first);
                read.ok().and_then(|()| Format::sniff(&first)).ok_or_else(|| {
                    subject.refused("it is neither a zip archive nor a gzip-compressed tar archive")
                })?
            }
        };
        Self::of_file(&subject, file, format, include, print)
    }

    /// Inspects an archive that another registry published. It is sent unchanged.
    ///
    /// That registry has the files that its publisher wanted, so none of them is refused as a secret.
    ///
    /// # Errors
    ///
    /// As [`Self::open`].
    pub(crate) fn of_registry(
        name: String,
        file: File,
        format: Format,
    ) -> Result<Self, CommandError> {
        Self::inspect(&Subject(name), file, format, Vec::new())
    }

    /// Inspects a finished archive, which is sent unchanged.
    fn of_file(
        subject: &Subject,
        file: File,
        format: Format,
        include: &[Pattern],
        print: PrintNotice<'_>,
    ) -> Result<Self, CommandError> {
        let archive = Self::inspect(subject, file, format, Vec::new())?;
        let found =
            findings(&archive.file, format, include).map_err(|error| subject.unreadable(&error))?;
        subject.check(&found)?;
        print_unmatched(&found.unmatched, print);
        Ok(archive)
    }

    fn inspect(
        subject: &Subject,
        mut file: File,
        format: Format,
        skipped: Vec<String>,
    ) -> Result<Self, CommandError> {
        let unreadable = |error: io::Error| subject.unreadable(&error);
        let bytes = file.metadata().map_err(unreadable)?.len();
        if bytes > MAX_ARCHIVE {
            return Err(subject.refused(format_args!(
                "the archive has {bytes} bytes, but the maximum is {MAX_ARCHIVE}"
            )));
        }
        let inspected = inspect_and_list(&mut file, format, &ArchiveLimits::default());
        let files = inspected.map_err(|error| match error {
            ArchiveError::Unreadable(error) => unreadable(error),
            ArchiveError::Rejected { .. } | ArchiveError::TooSlow(_) => {
                let refused = subject.refused(&error);
                match error.hint() {
                    Some(hint) => refused.hint(hint),
                    None => refused,
                }
            }
        })?;
        let sha256 = digest(&mut file).map_err(unreadable)?;
        Ok(Self { file, format, bytes, sha256, files, skipped })
    }

    /// Returns the files in the archive, in its own order.
    pub(crate) fn files(&self) -> &[ArchivedFile] {
        &self.files
    }

    /// Returns the files and folders that are not in the archive. The name of a folder ends with `/`.
    pub(crate) fn skipped(&self) -> &[String] {
        &self.skipped
    }

    /// Returns the SHA-256 of the archive, in lower-case hex.
    pub(crate) fn sha256(&self) -> &str {
        &self.sha256
    }

    /// Returns the size in bytes.
    pub(crate) const fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Returns the format of the archive.
    pub(crate) const fn format(&self) -> Format {
        self.format
    }

    /// Sends the archive to a broker, with its media type.
    pub(crate) async fn post(
        &self,
        api: &Api,
        request: RequestBuilder,
    ) -> Result<ApiResponse, CommandError> {
        let request = request.header(CONTENT_TYPE, self.format.content_type());
        self.send(api, request.header(CONTENT_LENGTH, self.bytes)).await
    }

    /// Returns the file of the archive.
    pub(crate) const fn file(&self) -> &File {
        &self.file
    }

    /// Sends the whole archive in chunks, with the headers of the request, and shows a progress bar.
    async fn send(&self, api: &Api, request: RequestBuilder) -> Result<ApiResponse, CommandError> {
        let request = request.timeout(UPLOAD_TIMEOUT);
        send_file(api, request, &self.file, &bar(self.bytes)).await
    }
}

/// Sends a whole file in chunks, with the headers and the timeout of the request, and moves the bar.
pub(crate) async fn send_file(
    api: &Api,
    request: RequestBuilder,
    file: &File,
    bar: &ProgressBar,
) -> Result<ApiResponse, CommandError> {
    let unreadable =
        |error: io::Error| CommandError::failed_because("cannot read the archive again", &error);
    let mut file = tokio::fs::File::from_std(file.try_clone().map_err(unreadable)?);
    file.seek(SeekFrom::Start(0)).await.map_err(unreadable)?;
    let (mut sender, body) = Channel::<Bytes, io::Error>::new(4);
    bar.set_position(0);
    let sending = async {
        loop {
            let mut chunk = vec![0; CHUNK];
            match file.read(&mut chunk).await {
                Ok(0) => return,
                Ok(count) => {
                    chunk.truncate(count);
                    bar.inc(count as u64);
                    // The server has closed the connection, so it needs no more data.
                    if sender.send_data(chunk.into()).await.is_err() {
                        return;
                    }
                }
                // The request must fail, so that the server does not accept a truncated archive.
                Err(error) => return sender.abort(error),
            }
        }
    };
    let (answer, ()) = tokio::join!(api.send(request.body(Body::wrap(body))), sending);
    bar.finish_and_clear();
    answer
}

/// What is to be published, as an error names it.
struct Subject(String);

impl Subject {
    fn unreadable(&self, error: &io::Error) -> CommandError {
        CommandError::failed_because(format_args!("`{}` cannot be read", self.0), error)
    }

    fn refused(&self, problem: impl fmt::Display) -> CommandError {
        CommandError::refused(format!("`{}` cannot be published: {problem}", self.0))
    }

    fn unusable(&self, problem: &str) -> CommandError {
        CommandError::usage(format!("`{}` cannot be published: {problem}", self.0))
    }

    /// Refuses an archive with files that the program would not pack from a folder.
    fn check(&self, found: &ArchiveFindings) -> Result<(), CommandError> {
        let secrets = found.secrets.iter().map(|(name, kind)| format!("`{name}` ({kind})"));
        let strangers = found.strangers.iter().map(|name| format!("`{name}`"));
        let mut names: Vec<String> = secrets.chain(strangers).collect();
        if names.is_empty() {
            return Ok(());
        }
        let more = names.len().saturating_sub(MAX_SKIPPED_SHOWN);
        names.truncate(MAX_SKIPPED_SHOWN);
        let more = if more > 0 { format!(", and {more} more") } else { String::new() };
        Err(self
            .refused(format_args!(
                "it contains files that do not belong to a module: {}{more}",
                names.join(", ")
            ))
            .hint(
                "pack it again without them, publish the folder, or publish them with `--include PATTERN`",
            ))
    }
}

/// Returns the format that the end of a file name says.
fn format_of(name: &str) -> Option<Format> {
    let ends = |format: &Format| {
        name.strip_suffix(format.extension()).is_some_and(|rest| rest.ends_with('.'))
    };
    Format::ALL.into_iter().find(ends)
}

/// Prints notices about the files that are not in the archive of a folder.
fn print_skipped(packed: &PackedFolder, print: PrintNotice<'_>) {
    if !packed.skipped.is_empty() {
        let more = packed.skipped.len().saturating_sub(MAX_SKIPPED_SHOWN);
        let shown = packed.skipped[..packed.skipped.len() - more].join(", ");
        match more {
            0 => print(&format!("skipped {shown}")),
            more => print(&format!("skipped {shown}, and {more} more")),
        }
    }
    for folder in &packed.only_name_excluded {
        print(&format!(
            "`.terraformignore` excludes `{folder}`, but not the files in it; write `{folder}/`"
        ));
    }
    print_unmatched(&packed.unmatched, print);
}

/// Prints a notice about each pattern that selects no file.
fn print_unmatched(patterns: &[String], print: PrintNotice<'_>) {
    for pattern in patterns {
        print(&format!(
            "`--include {pattern}` selects no file; hint: for the files in a folder, write `FOLDER/`, and include the folder itself if the program skips it"
        ));
    }
}

fn pack_failure(error: &PackError) -> CommandError {
    match error {
        PackError::Secrets { .. } => CommandError::refused(error.to_string()).hint(
            "delete them, list them in `.terraformignore`, or publish them with `--include PATTERN`",
        ),
        PackError::Rejected { .. } | PackError::TooLarge { .. } => {
            CommandError::refused(error.to_string())
        }
        PackError::Unreadable { .. } | PackError::Unwritable(_) => {
            CommandError::failed_because("cannot pack the folder", error)
        }
    }
}

/// Returns the SHA-256 of a whole file, in lower-case hex.
pub(crate) fn digest(file: &mut File) -> io::Result<String> {
    file.rewind()?;
    let (mut hash, mut chunk) = (Sha256::new(), vec![0; CHUNK]);
    loop {
        match file.read(&mut chunk)? {
            0 => return Ok(hex::encode(hash.finalize())),
            count => hash.update(&chunk[..count]),
        }
    }
}
