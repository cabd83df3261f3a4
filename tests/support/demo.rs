//! Plays the demo: from an empty folder to an installed module and to refusals.
//!
//! It prints each step and the real output.
//!
//! It does not change the caller's home, Terraform configuration or AWS configuration.

mod by_hand;
mod play;
mod refusals;
mod requests;
mod show;
mod stage;

use tokio::signal::unix::{Signal, SignalKind, signal};

use self::play::Play;
pub use self::show::Failed;
use self::show::say;

/// The STS that the demo uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sts {
    /// A local STS, for throw-away keys.
    Local,
    /// AWS, for the caller's own credentials.
    Aws,
}

/// Options of the demo.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Options {
    /// Exit after the last step, instead of running until Ctrl-C.
    pub once: bool,
    /// The STS to use.
    pub sts: Sts,
}

/// Plays the demo, and fails at the first step that does not hold.
///
/// All processes of the demo end with it.
pub async fn run(options: Options) -> Result<(), Failed> {
    let mut stop = StopSignals::listen()?;
    let mut play = tokio::select! {
        played = Play::from_beginning(options.sts) => played?,
        () = stop.wait() => return Err(Failed::new("stopped before the last step")),
    };
    say("\nEvery step held.\n");
    if !options.once {
        say(&by_hand::text(&play));
        stop.wait().await;
        say("\nStopping.\n");
    }
    play.end().await;
    Ok(())
}

/// Waits for Ctrl-C or SIGTERM.
struct StopSignals {
    interrupt: Signal,
    terminate: Signal,
}

impl StopSignals {
    fn listen() -> Result<Self, Failed> {
        let of = |kind| {
            signal(kind).map_err(|error| Failed::new(format!("cannot wait for signals: {error}")))
        };
        Ok(Self {
            interrupt: of(SignalKind::interrupt())?,
            terminate: of(SignalKind::terminate())?,
        })
    }

    async fn wait(&mut self) {
        tokio::select! { _ = self.interrupt.recv() => {}, _ = self.terminate.recv() => {} }
    }
}
