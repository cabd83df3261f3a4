//! Packs or opens a module's archive, inspects it, and sends it in chunks.

use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::channel::Channel;
use reqwest::header::{CONTENT_LENGTH, CONTENT_TYPE};
use reqwest::{Body, RequestBuilder};
use sha2::{Digest as _, Sha256};
use stile_core::package::archive::{ArchiveError, ArchiveLimits, ArchivedFile, inspect_and_list};
use stile_core::package::{Format, MAX_ARCHIVE};
use tokio::io::{AsyncReadExt as _, AsyncSeekExt as _};

use crate::api::{Api, ApiResponse};
use crate::error::CommandError;
use crate::output::notice;
use crate::pack::{PackError, PackedFolder, Pattern, pack};
use crate::progress::bar;

/// Timeout of an upload. It is longer than the broker's own timeout of 15 minutes.
const UPLOAD_TIMEOUT: Duration = Duration::from_secs(960);

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

impl Archive {
    /// Packs a folder or opens a file, and inspects the archive before any network access.
    ///
    /// For a folder, it prints a notice with the skipped files. The patterns select files that it
    /// would skip or refuse.
    ///
    /// # Errors
    ///
    /// [`CommandError`], if the archive cannot be published, or if a file cannot be read.
    pub(crate) fn open(path: &Path, include: &[Pattern]) -> Result<Self, CommandError> {
        let unreadable = |error: io::Error| {
            CommandError::failed_because(
                format_args!("`{}` cannot be read", path.display()),
                &error,
            )
        };
        let refused = |problem: &dyn std::fmt::Display| {
            CommandError::refused(format!("`{}` cannot be published: {problem}", path.display()))
        };
        let unusable = |problem: &str| {
            CommandError::usage(format!("`{}` cannot be published: {problem}", path.display()))
        };
        let (mut file, format, skipped) = if std::fs::metadata(path).map_err(unreadable)?.is_dir() {
            let packed = pack(path, include).map_err(|error| pack_failure(&error))?;
            print_skipped(&packed);
            (packed.file, Format::Zip, packed.skipped)
        } else {
            if !include.is_empty() {
                return Err(unusable("`--include` selects files of a folder only")
                    .hint("leave out `--include`: the program sends an archive unchanged"));
            }
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            let ends = |format: &Format| {
                name.strip_suffix(format.extension()).is_some_and(|rest| rest.ends_with('.'))
            };
            let format = Format::ALL.into_iter().find(ends);
            let hint = "use a folder, a `.zip` or a `.tar.gz`";
            // Opening a pipe would wait for a writer.
            if !std::fs::metadata(path).map_err(unreadable)?.is_file() {
                return Err(refused(&"it is neither a file nor a folder").hint(hint));
            }
            (
                File::open(path).map_err(unreadable)?,
                format.ok_or_else(|| unusable("its name has no archive extension").hint(hint))?,
                Vec::new(),
            )
        };
        let bytes = file.metadata().map_err(unreadable)?.len();
        if bytes > MAX_ARCHIVE {
            return Err(refused(&format_args!(
                "the archive has {bytes} bytes, but the maximum is {MAX_ARCHIVE}"
            )));
        }
        let inspected = inspect_and_list(&mut file, format, &ArchiveLimits::default());
        let files = inspected.map_err(|error| match error {
            ArchiveError::Unreadable(error) => unreadable(error),
            ArchiveError::Rejected { .. } | ArchiveError::TooSlow(_) => {
                error.hint().map_or(refused(&error), |hint| refused(&error).hint(hint))
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

    /// Sends the whole archive in chunks, with the headers of the request, and shows a progress bar.
    pub(crate) async fn send(
        &self,
        api: &Api,
        request: RequestBuilder,
    ) -> Result<ApiResponse, CommandError> {
        let unreadable = |error: io::Error| {
            CommandError::failed_because("cannot read the archive again", &error)
        };
        let mut file = tokio::fs::File::from_std(self.file.try_clone().map_err(unreadable)?);
        file.seek(SeekFrom::Start(0)).await.map_err(unreadable)?;
        let (mut sender, body) = Channel::<Bytes, io::Error>::new(4);
        let bar = bar(self.bytes);
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
        let request = request.timeout(UPLOAD_TIMEOUT).body(Body::wrap(body));
        let (answer, ()) = tokio::join!(api.send(request), sending);
        bar.finish_and_clear();
        answer
    }
}

/// Prints notices about the files that are not in the archive of a folder.
fn print_skipped(packed: &PackedFolder) {
    if !packed.skipped.is_empty() {
        let more = packed.skipped.len().saturating_sub(MAX_SKIPPED_SHOWN);
        let shown = packed.skipped[..packed.skipped.len() - more].join(", ");
        match more {
            0 => notice(format_args!("skipped {shown}")),
            more => notice(format_args!("skipped {shown}, and {more} more")),
        }
    }
    for folder in &packed.only_name_excluded {
        notice(format_args!(
            "`.terraformignore` excludes `{folder}`, but not the files in it; write `{folder}/`"
        ));
    }
    for pattern in &packed.unmatched {
        notice(format_args!(
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

fn digest(file: &mut File) -> io::Result<String> {
    file.rewind()?;
    let (mut hash, mut chunk) = (Sha256::new(), vec![0; CHUNK]);
    loop {
        match file.read(&mut chunk)? {
            0 => return Ok(hex::encode(hash.finalize())),
            count => hash.update(&chunk[..count]),
        }
    }
}
