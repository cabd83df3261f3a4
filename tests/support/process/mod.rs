//! Runs programs in tests: child processes, the three programs of two releases, and their home
//! folders.
//!
//! It also creates Python environments and folders of Node packages, and proxies that programs use.

pub mod home;
pub mod node;
pub mod previous;
pub mod programs;
pub mod schemathesis;
pub mod tunnel;
pub mod venv;

use std::process::{Child, Command, ExitStatus};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use crate::time_limits;

/// A running child process. Dropping it kills the process.
#[derive(Debug)]
pub struct Process(Child);

impl Process {
    /// Starts the process.
    pub fn start(command: &mut Command) -> Self {
        match command.spawn() {
            Ok(child) => Self(child),
            Err(error) => {
                panic!("`{}` cannot be started: {error}", command.get_program().display())
            }
        }
    }

    /// Returns the process id.
    pub fn id(&self) -> u32 {
        self.0.id()
    }

    /// Returns the child, for its pipes.
    pub fn child(&mut self) -> &mut Child {
        &mut self.0
    }

    /// Returns the exit status; `None` while the process runs.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.0.try_wait().unwrap()
    }

    /// Kills the process with SIGKILL, as the kernel does when memory runs out.
    pub fn kill_9(&mut self) {
        let _ = self.0.kill();
        self.0.wait().unwrap();
    }

    /// Sends SIGHUP, and does not wait.
    pub fn send_hangup(&self) {
        kill_process(Pid::from_child(&self.0), Signal::HUP).unwrap();
    }

    /// Stops the process with SIGSTOP, until [`Process::resume`].
    pub fn freeze(&self) {
        kill_process(Pid::from_child(&self.0), Signal::STOP).unwrap();
    }

    /// Lets a frozen process go on.
    pub fn resume(&self) {
        kill_process(Pid::from_child(&self.0), Signal::CONT).unwrap();
    }

    /// Sends SIGTERM, waits for the end of the process, and returns its exit status.
    pub async fn terminate(&mut self) -> ExitStatus {
        kill_process(Pid::from_child(&self.0), Signal::TERM).unwrap();
        let ended = time_limits::wait(async {
            let mut tick = tokio::time::interval(Duration::from_millis(10));
            loop {
                tick.tick().await;
                if let Some(status) = self.ended() {
                    return status;
                }
            }
        });
        match ended.await {
            Some(status) => status,
            None => panic!("process {} does not end after SIGTERM", self.id()),
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt as _;
    use std::process::Stdio;

    use rustix::io::Errno;
    use rustix::process::test_kill_process;

    use super::*;

    fn waiting() -> Process {
        Process::start(Command::new("cat").stdin(Stdio::piped()))
    }

    #[tokio::test]
    async fn a_process_ends_by_the_signal_that_it_gets() {
        let mut process = waiting();
        assert_eq!(process.ended(), None);
        assert_eq!(process.terminate().await.signal(), Some(15));
        let mut process = waiting();
        process.kill_9();
        assert_eq!(process.ended().unwrap().signal(), Some(9));
    }

    #[test]
    fn a_dropped_process_is_gone() {
        let process = waiting();
        let pid = Pid::from_child(&process.0);
        assert_eq!(test_kill_process(pid), Ok(()));
        drop(process);
        // Do not check its pipe instead. A program that another test starts has a copy of the pipe
        // for a moment.
        assert_eq!(test_kill_process(pid), Err(Errno::SRCH));
    }
}
