//! Finds the files in a finished archive that the program would not pack from a folder.

use std::fs::File;
use std::io::{self, Read, Seek as _};

use flate2::read::MultiGzDecoder;
use stile_core::package::Format;

use super::ignore::{IgnoreRules, Pattern};
use super::secrets::{self, Verdict};
use super::selection::{Choice, Selection};
use super::{ArchiveFindings, printable};

/// Finds what does not belong in the archive of a module. The archive has passed the inspection.
///
/// The patterns select files that the publisher wants in it. An archive is sent unchanged, so the rules
/// of a `.terraformignore` in it do not count.
///
/// # Errors
///
/// An I/O error, if the archive cannot be read again.
pub(crate) fn findings(
    mut file: &File,
    format: Format,
    include: &[Pattern],
) -> io::Result<ArchiveFindings> {
    file.rewind()?;
    let mut judge = Judge {
        selection: Selection { rules: IgnoreRules::default(), include },
        found: ArchiveFindings::default(),
        names: Vec::new(),
    };
    match format {
        Format::Zip => {
            let mut archive = zip::ZipArchive::new(io::BufReader::new(file))?;
            for index in 0..archive.len() {
                let mut entry = archive.by_index(index)?;
                if entry.is_file() {
                    let name = String::from_utf8_lossy(entry.name_raw()).into_owned();
                    judge.judge(&name, &mut entry)?;
                }
            }
        }
        Format::TarGz => {
            let mut archive = tar::Archive::new(MultiGzDecoder::new(io::BufReader::new(file)));
            for entry in archive.entries()? {
                let mut entry = entry?;
                if entry.header().entry_type().is_file() {
                    let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
                    judge.judge(&name, &mut entry)?;
                }
            }
        }
    }
    let Judge { mut found, names, .. } = judge;
    let matches = |pattern: &&Pattern| names.iter().any(|name| pattern.matches(name));
    found.unmatched =
        include.iter().filter(|pattern| !matches(pattern)).map(ToString::to_string).collect();
    Ok(found)
}

struct Judge<'a> {
    selection: Selection<'a>,
    found: ArchiveFindings,
    names: Vec<String>,
}

impl Judge<'_> {
    fn judge(&mut self, name: &str, content: &mut impl Read) -> io::Result<()> {
        let name = name.trim_start_matches("./");
        let verdict = match self.selection.target(name) {
            Choice::Include => Verdict::Pack,
            Choice::Skip => Verdict::Skip,
            Choice::Refuse(kind) => Verdict::Refuse(kind),
            Choice::Pack => {
                let mut bytes = Vec::new();
                content.read_to_end(&mut bytes)?;
                secrets::of_content(&bytes)
            }
        };
        match verdict {
            Verdict::Pack => {}
            Verdict::Skip => self.found.strangers.push(printable(name)),
            Verdict::Refuse(kind) => self.found.secrets.push((printable(name), kind)),
        }
        self.names.push(name.to_owned());
        Ok(())
    }
}
