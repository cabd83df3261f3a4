//! Shows on a terminal that a command is at work: a bar for bytes or changes, or a spinner for a long
//! wait.
//!
//! Both have no colours, so they need no rule for `NO_COLOR`.

use std::io::{self, IsTerminal as _};
use std::pin::pin;
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::output::is_quiet;

/// The time after which a wait is long. A spinner for less would only flicker.
const LONG: Duration = Duration::from_millis(500);

/// The time between two pictures of the spinner.
const TICK: Duration = Duration::from_millis(100);

/// The templates of bars and spinners.
const SENDING: &str = "sending {bytes} of {total_bytes} {wide_bar}";
const DOWNLOADING: &str = "downloading {bytes} of {total_bytes} {wide_bar}";
const DOWNLOADING_UNKNOWN: &str = "downloading {bytes} {spinner}";
const APPLYING: &str = "made {pos} of {len} changes {wide_bar}";
const ARCHIVES: &str = "{msg} {pos} of {len} archives {wide_bar}";
const PACKAGES: &str = "checked {pos} of {len} packages {wide_bar}";
const EVENTS: &str = "{spinner} verified {pos} events";
const FILE: &str = "{msg} {bytes} of {total_bytes} {wide_bar}";
const WAITING: &str = "{spinner} {msg}";

/// Creates a bar for an upload of that many bytes.
pub(crate) fn bar(bytes: u64) -> ProgressBar {
    let bar = ProgressBar::with_draw_target(Some(bytes), target());
    styled(bar, SENDING)
}

/// The bars of several files that a command sends at the same time.
#[derive(Debug)]
pub(crate) struct FileBars(MultiProgress);

impl FileBars {
    /// Creates an empty list of bars.
    pub(crate) fn new() -> Self {
        Self(MultiProgress::with_draw_target(target()))
    }

    /// Adds a bar for a file with this name and this number of bytes.
    pub(crate) fn add(&self, name: String, bytes: u64) -> ProgressBar {
        let bar = self.0.add(ProgressBar::new(bytes));
        styled(bar, FILE).with_message(name)
    }
}

/// Creates a bar for a download, of that many bytes if the server announces them.
pub(crate) fn download_bar(bytes: Option<u64>) -> ProgressBar {
    let bar = ProgressBar::with_draw_target(bytes, target());
    match bytes {
        Some(_) => styled(bar, DOWNLOADING),
        None => styled(bar, DOWNLOADING_UNKNOWN),
    }
}

/// Creates a bar for that many changes.
pub(crate) fn changes_bar(changes: usize) -> ProgressBar {
    let changes = u64::try_from(changes).unwrap_or(u64::MAX);
    styled(ProgressBar::with_draw_target(Some(changes), target()), APPLYING)
}

/// Creates a bar for that many packages.
pub(crate) fn packages_bar(packages: usize) -> ProgressBar {
    let packages = u64::try_from(packages).unwrap_or(u64::MAX);
    styled(ProgressBar::with_draw_target(Some(packages), target()), PACKAGES)
}

/// Creates a bar for archives, of which the number is set later. `done` says what happens to them.
pub(crate) fn archives_bar(done: &'static str) -> ProgressBar {
    let bar = styled(ProgressBar::with_draw_target(Some(0), target()), ARCHIVES);
    bar.set_message(done);
    bar
}

/// Creates a counter for events, whose number nobody knows before the end.
pub(crate) fn events_bar() -> ProgressBar {
    styled(ProgressBar::with_draw_target(None, target()), EVENTS)
}

/// Waits for work, and shows a spinner with these words if that takes long.
pub(crate) async fn spinning<T>(words: &'static str, work: impl Future<Output = T>) -> T {
    let mut work = pin!(work);
    if !is_shown(io::stderr().is_terminal(), is_quiet()) {
        return work.await;
    }
    if let Ok(done) = tokio::time::timeout(LONG, &mut work).await {
        return done;
    }
    let spinner = styled(ProgressBar::with_draw_target(None, target()), WAITING);
    spinner.set_message(words);
    spinner.enable_steady_tick(TICK);
    let done = work.await;
    spinner.finish_and_clear();
    done
}

/// Returns whether the user sees progress: only on a terminal, and not with `--quiet`.
const fn is_shown(terminal: bool, quiet: bool) -> bool {
    terminal && !quiet
}

fn target() -> ProgressDrawTarget {
    if is_shown(io::stderr().is_terminal(), is_quiet()) {
        ProgressDrawTarget::stderr()
    } else {
        ProgressDrawTarget::hidden()
    }
}

fn styled(bar: ProgressBar, template: &str) -> ProgressBar {
    match ProgressStyle::with_template(template) {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_is_shown_on_a_terminal_only_and_not_to_the_quiet() {
        for (terminal, quiet, expected) in
            [(false, false, false), (false, true, false), (true, true, false), (true, false, true)]
        {
            assert_eq!(is_shown(terminal, quiet), expected, "{terminal} {quiet}");
        }
    }

    #[test]
    fn each_template_is_valid() {
        let templates = [
            SENDING,
            DOWNLOADING,
            APPLYING,
            ARCHIVES,
            PACKAGES,
            EVENTS,
            FILE,
            DOWNLOADING_UNKNOWN,
            WAITING,
        ];
        for template in templates {
            assert!(ProgressStyle::with_template(template).is_ok(), "{template}");
        }
    }

    #[tokio::test]
    async fn the_result_of_the_work_is_returned() {
        assert_eq!(spinning("waiting", async { 7 }).await, 7);
    }
}
