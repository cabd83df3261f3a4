//! The demo: Stile from an empty folder to an installed module and to refusals, one line a step, with what is really printed.
//!
//! The caller's own home, Terraform configuration and AWS configuration are not changed.

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

/// Who answers for STS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sts {
    /// A server on this machine, for throw-away keys.
    Local,
    /// AWS, for the caller's own credentials.
    Aws,
}

/// What is to be shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Options {
    /// End after the last step, instead of staying up to be tried by hand.
    pub once: bool,
    /// Who answers for STS.
    pub sts: Sts,
}

/// Shows it; fails at the first step that does not hold. What was started ends with it.
pub async fn run(options: Options) -> Result<(), Failed> {
    let mut order = Order::take()?;
    let mut play = tokio::select! {
        played = Play::from_beginning(options.sts) => played?,
        () = order.wait() => return Err(Failed::new("stopped before the last step")),
    };
    say("\nEvery step held.\n");
    if !options.once {
        say(&by_hand::text(&play));
        order.wait().await;
        say("\nStopping.\n");
    }
    play.end().await;
    Ok(())
}

/// Ctrl-C, or a polite kill.
struct Order {
    interrupt: Signal,
    terminate: Signal,
}

impl Order {
    fn take() -> Result<Self, Failed> {
        let of = |kind| {
            signal(kind)
                .map_err(|error| Failed::new(format!("signals cannot be waited for: {error}")))
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
