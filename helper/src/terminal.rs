//! Where words for a person go: stderr, and the terminal itself where Terraform would swallow stderr.

use std::fs::{File, OpenOptions};
use std::io::{self, IsTerminal as _, Write as _};

/// Says something beside the point, on stderr.
pub(crate) fn note(line: &str) {
    let _written = writeln!(io::stderr(), "stile: {line}");
}

/// Says why there is no result: on stderr and, if Terraform stands between us and the person, on the terminal too.
///
/// Terraform shows a helper's stderr for providers only; for modules the person would see nothing but a 401.
pub(crate) fn report_failure(line: &str, for_terraform: bool) {
    note(line);
    if for_terraform
        && !io::stderr().is_terminal()
        && let Ok(mut terminal) = open_terminal()
        && in_foreground(&terminal)
    {
        let _written = writeln!(terminal, "stile: {line}");
    }
}

/// Writes what was asked for to stdout, whole.
pub(crate) fn print(product: &str) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(product.as_bytes())?;
    stdout.flush()
}

#[cfg(unix)]
fn open_terminal() -> io::Result<File> {
    use std::os::unix::fs::OpenOptionsExt as _;
    // It must become nobody's controlling terminal, and one whose output is held must not hold Terraform up.
    let flags = rustix::fs::OFlags::NOCTTY | rustix::fs::OFlags::NONBLOCK;
    OpenOptions::new().write(true).custom_flags(flags.bits().cast_signed()).open("/dev/tty")
}

/// Whether we are in the terminal's foreground: under `stty tostop` writing from the background would stop Terraform and us.
#[cfg(unix)]
fn in_foreground(terminal: &File) -> bool {
    rustix::termios::tcgetpgrp(terminal)
        .is_ok_and(|foreground| foreground == rustix::process::getpgrp())
}

#[cfg(not(unix))]
fn in_foreground(_terminal: &File) -> bool {
    true
}

#[cfg(windows)]
fn open_terminal() -> io::Result<File> {
    OpenOptions::new().write(true).open("CONOUT$")
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_our_terminal_is_not_written_to() {
        assert!(!in_foreground(&File::open("/dev/null").unwrap()));
    }
}
