//! Writes messages to stderr, and to the terminal when Terraform hides the helper's stderr.

use std::fs::{File, OpenOptions};
use std::io::{self, IsTerminal as _, Write as _};

/// Writes a notice to stderr.
pub(crate) fn note(line: &str) {
    let _written = writeln!(io::stderr(), "stile: {line}");
}

/// Makes GitHub Actions hide a value in its logs. It reads such commands from stderr, too.
pub(crate) fn mask_in_github_logs(value: &str) {
    let _written = writeln!(io::stderr(), "::add-mask::{value}");
}

/// Writes a failure to stderr and, if Terraform runs the helper, also to the terminal.
///
/// Terraform shows a helper's stderr only for providers. For modules the user would see only a 401.
pub(crate) fn report_failure(line: &str, for_terraform: bool) {
    note(line);
    if for_terraform
        && !io::stderr().is_terminal()
        && let Some(mut terminal) = controlling_terminal()
    {
        let _written = writeln!(terminal, "stile: {line}");
    }
}

/// Writes a notice to the terminal, if there is one, and nowhere else.
///
/// `may_show` decides only if there is a terminal.
pub(crate) fn show_notice(line: &str, may_show: impl FnOnce() -> bool) {
    if io::stderr().is_terminal() {
        if may_show() {
            note(line);
        }
    } else if let Some(mut terminal) = controlling_terminal()
        && may_show()
    {
        let _written = writeln!(terminal, "stile: {line}");
    }
}

/// Opens the terminal that Terraform runs in, if a write cannot stop Terraform.
fn controlling_terminal() -> Option<File> {
    open_terminal().ok().filter(in_foreground)
}

/// Writes the result to stdout and flushes it.
pub(crate) fn print(text: &str) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(text.as_bytes())?;
    stdout.flush()
}

#[cfg(unix)]
fn open_terminal() -> io::Result<File> {
    use std::os::unix::fs::OpenOptionsExt as _;
    // NOCTTY: do not become a controlling terminal. NONBLOCK: paused output must not block Terraform.
    let flags = rustix::fs::OFlags::NOCTTY | rustix::fs::OFlags::NONBLOCK;
    OpenOptions::new().write(true).custom_flags(flags.bits().cast_signed()).open("/dev/tty")
}

/// Tells whether this process is in the foreground of the terminal.
///
/// Under `stty tostop` a write from the background would stop Terraform and the helper.
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
    fn a_file_that_is_not_a_terminal_is_never_in_the_foreground() {
        assert!(!in_foreground(&File::open("/dev/null").unwrap()));
    }
}
