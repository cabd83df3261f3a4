//! Chooses the emulator for the store on AWS: moto, or ministack, which shares no code with it.

use crate::aws::moto::Moto;
use crate::aws::python_server::PythonServer;
use crate::process::venv;
use crate::skipped::{skipped, wanted_emulator};

/// The script that runs ministack.
const MINISTACK: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/ministack_server.py");

/// A running emulator of DynamoDB, S3 and KMS.
#[derive(Debug)]
pub(super) enum Emulator {
    Moto(Moto),
    Ministack(PythonServer),
}

impl Emulator {
    /// Starts moto, or the emulator that `STILE_TEST_EMULATOR` names.
    ///
    /// ministack verifies presigned URLs of the caller whose credentials the variables have. Without
    /// `python3` it records a skip and returns `None`.
    pub(super) fn start(credentials: &[(&str, &str)]) -> Option<Self> {
        let started = match wanted_emulator().as_deref() {
            None | Some("moto") => Moto::start().map(Self::Moto),
            Some("ministack") => {
                venv::python("ministack", "ministack-requirements.txt").map(|python| {
                    Self::Ministack(PythonServer::start(&python, MINISTACK, credentials))
                })
            }
            Some(other) => panic!("STILE_TEST_EMULATOR is moto or ministack, not `{other}`"),
        };
        if started.is_none() {
            skipped("python3", "the store on AWS: DynamoDB, S3 and KMS");
        }
        started
    }

    /// Returns the URL that it listens on: `http://127.0.0.1:PORT`.
    pub(super) fn endpoint(&self) -> String {
        match self {
            Self::Moto(moto) => moto.endpoint(),
            Self::Ministack(server) => server.endpoint(),
        }
    }
}
