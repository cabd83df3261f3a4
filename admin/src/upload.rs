//! A module's archive: packed or opened, looked through before anything is asked of the network, and sent piece by piece.

use std::fs::File;
use std::io::{self, IsTerminal as _, Read as _, Seek as _, SeekFrom};
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::channel::Channel;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use reqwest::header::{CONTENT_LENGTH, CONTENT_TYPE};
use reqwest::{Body, RequestBuilder};
use sha2::{Digest as _, Sha256};
use stile_core::package::archive::{ArchiveError, ArchiveLimits, inspect};
use stile_core::package::{Format, MAX_ARCHIVE};
use tokio::io::{AsyncReadExt as _, AsyncSeekExt as _};

use crate::api::{ApiResponse, send};
use crate::error::CommandError;
use crate::output::notice;
use crate::pack::{PackError, pack};

/// Longest time for an upload; the broker itself gives up after 15 minutes.
const UPLOAD_TIMEOUT: Duration = Duration::from_secs(960);

/// How much of the archive is read at a time.
const CHUNK: usize = 64 * 1024;

/// An archive that would pass the broker's inspection, on its way there.
#[derive(Debug)]
pub(crate) struct Archive {
    file: File,
    format: Format,
    bytes: u64,
    sha256: String,
}

impl Archive {
    /// Packs a folder or opens a file, and looks through it before anything is asked of the network.
    pub(crate) fn open(path: &Path) -> Result<Self, CommandError> {
        let unreadable = |error: io::Error| {
            CommandError::failed_because(
                format_args!("`{}` cannot be read", path.display()),
                &error,
            )
        };
        let refused = |problem: &dyn std::fmt::Display| {
            CommandError::refused(format!("`{}` cannot be published: {problem}", path.display()))
        };
        let (mut file, format) = if std::fs::metadata(path).map_err(unreadable)?.is_dir() {
            let packed = pack(path).map_err(|error| pack_failure(&error))?;
            if !packed.state.is_empty() {
                notice(format_args!(
                    "left out, since Terraform's state holds secrets: {}",
                    packed.state.join(", ")
                ));
            }
            (packed.file, Format::Zip)
        } else {
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            let ends = |format: &Format| {
                name.strip_suffix(format.extension()).is_some_and(|rest| rest.ends_with('.'))
            };
            let format = Format::ALL.into_iter().find(ends);
            let hint = "name a folder, a `.zip` or a `.tar.gz`";
            // Opening a pipe would wait for somebody who writes into it.
            if !std::fs::metadata(path).map_err(unreadable)?.is_file() {
                return Err(refused(&"it is neither a file nor a folder").hint(hint));
            }
            (
                File::open(path).map_err(unreadable)?,
                format.ok_or_else(|| refused(&"it is no archive by its name").hint(hint))?,
            )
        };
        let bytes = file.metadata().map_err(unreadable)?.len();
        if bytes > MAX_ARCHIVE {
            return Err(refused(&format_args!(
                "the archive has {bytes} bytes, and {MAX_ARCHIVE} is the most"
            )));
        }
        inspect(&mut file, format, &ArchiveLimits::default()).map_err(|error| match error {
            ArchiveError::Unreadable(error) => unreadable(error),
            ArchiveError::Rejected { .. } => {
                error.hint().map_or(refused(&error), |hint| refused(&error).hint(hint))
            }
        })?;
        let sha256 = digest(&mut file).map_err(unreadable)?;
        Ok(Self { file, format, bytes, sha256 })
    }

    /// Lower-case hex SHA-256 of its bytes.
    pub(crate) fn sha256(&self) -> &str {
        &self.sha256
    }

    /// Its length.
    pub(crate) const fn bytes(&self) -> u64 {
        self.bytes
    }

    /// What kind of archive it is.
    pub(crate) const fn format(&self) -> Format {
        self.format
    }

    /// Sends it to a broker, as what it is.
    pub(crate) async fn post(&self, request: RequestBuilder) -> Result<ApiResponse, CommandError> {
        self.send(
            request
                .header(CONTENT_TYPE, self.format.content_type())
                .header(CONTENT_LENGTH, self.bytes),
        )
        .await
    }

    /// Sends it from its beginning, piece by piece, with the headers that the request has; the bar is for a person who watches.
    pub(crate) async fn send(&self, request: RequestBuilder) -> Result<ApiResponse, CommandError> {
        let unreadable = |error: io::Error| {
            CommandError::failed_because("the archive cannot be read any more", &error)
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
                        // A broker that has refused it needs no more.
                        if sender.send_data(chunk.into()).await.is_err() {
                            return;
                        }
                    }
                    // The request breaks off, and never ends as if this had been all.
                    Err(error) => return sender.abort(error),
                }
            }
        };
        let request = request.timeout(UPLOAD_TIMEOUT).body(Body::wrap(body));
        let (answer, ()) = tokio::join!(send(request), sending);
        bar.finish_and_clear();
        answer
    }
}

fn pack_failure(error: &PackError) -> CommandError {
    match error {
        PackError::Rejected { .. } | PackError::TooLarge { .. } => {
            CommandError::refused(error.to_string())
        }
        PackError::Unreadable { .. } | PackError::Unwritable(_) => {
            CommandError::failed_because("the folder was not packed", error)
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

fn bar(bytes: u64) -> ProgressBar {
    let target = if io::stderr().is_terminal() {
        ProgressDrawTarget::stderr()
    } else {
        ProgressDrawTarget::hidden()
    };
    let bar = ProgressBar::with_draw_target(Some(bytes), target);
    match ProgressStyle::with_template("sending {bytes} of {total_bytes} {wide_bar}") {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}
