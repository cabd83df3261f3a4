//! What the suite and the demo stand on: identities, an STS, a certificate authority, emulators and real programs.
//!
//! | room | what is in it |
//! |---|---|
//! | [`identity`] | throw-away AWS credentials, and who STS says they are |
//! | [`archives`] | archives of modules |
//! | [`reply`] | an answer of the broker |
//! | [`sigv4`] | Signature Version 4, written a second time so that nothing vouches for itself |
//! | [`local_sts`] | an STS on loopback that really checks signatures |
//! | [`proof`] | proofs as the helper would sign them, and as an attacker would bend them |
//! | [`dev_ca`] | a certificate authority for a day's work |
//! | [`moto`] | a third party's STS, in Python |
//! | [`journal`] | what one test's broker logs, apart from every other's |
//! | [`meter`] | a proxy that counts calls of AWS, can be cut off, and has any of them go wrong |
//! | [`emulated_aws`] | a table, a bucket and a key in moto, behind a meter |
//! | [`left_out`] | which tools the machine has, and what was not shown for want of one |
//! | [`seed`] | chance that can be repeated |
//! | [`programs`] | the three programs, freshly built, and a broker that runs |
//! | [`lambda`] | Lambda's runtime API, and the broker as a function behind it |
//! | [`events`] | requests as gateways hand them to a function |
//! | [`front_door`] | HTTPS before a function, as a function URL is |
//! | [`patience`] | how long tests wait, and a clock that jumps to deadlines |
//! | [`process`] | a child process that does not outlive its test |
//! | [`test_broker`] | the real broker in this process, with a clock the test sets |
//! | [`test_clock`] | that clock |
//! | [`served`] | the same, served over TLS for programs to reach |
//! | [`home`] | a home folder and an environment for those programs |
//! | [`demo`] | the demo, step by step |
//! | [`soak`] | the released broker under good and bad requests for minutes |
//! | [`terraform`] | the real Terraform in such a home |
//! | [`terraform_release`] | other releases of it |
//! | [`venv`] | Python environments with what is needed of other people's programs |
//! | [`recorder`] | a proxy that keeps what is called of AWS, and can hold a call up |
//! | [`iam`] | what policies decide of a request |
//! | [`state_backend`] | the state backends of an example, made in an emulator, and a project that uses one |
//! | [`terraform_docs`] | whether a module's README says what the module takes and gives |
//! | [`rights`] | what a call of AWS must be allowed, and whether a policy allows it |
//! | [`provider`] | the same with the provider hashicorp/aws, on an emulator |
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a support that fails should fail its test at once"
)]

pub mod archives;
pub mod demo;
pub mod dev_ca;
pub mod emulated_aws;
pub mod events;
pub mod front_door;
pub mod home;
pub mod iam;
pub mod identity;
pub mod journal;
pub mod lambda;
pub mod left_out;
pub mod local_sts;
pub mod meter;
pub mod moto;
pub mod operator;
pub mod patience;
pub mod process;
pub mod programs;
pub mod proof;
pub mod provider;
pub mod recorder;
pub mod reply;
pub mod rights;
pub mod seed;
pub mod served;
pub mod sigv4;
pub mod soak;
pub mod state_backend;
pub mod terraform;
pub mod terraform_docs;
pub mod terraform_release;
pub mod test_broker;
pub mod test_clock;
pub mod venv;
