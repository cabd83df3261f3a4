//! What the suite and the demo stand on: identities, an STS, a certificate authority, emulators and real programs.
//!
//! | room | what is in it |
//! |---|---|
//! | [`identity`] | throw-away AWS credentials, and who STS says they are |
//! | [`sigv4`] | Signature Version 4, written a second time so that nothing vouches for itself |
//! | [`local_sts`] | an STS on loopback that really checks signatures |
//! | [`proof`] | proofs as the helper would sign them, and as an attacker would bend them |
//! | [`dev_ca`] | a certificate authority for a day's work |
//! | [`moto`] | a third party's STS, in Python |
//! | [`meter`] | a proxy that counts calls of AWS, can be cut off, and has any of them go wrong |
//! | [`emulated_aws`] | a table, a bucket and a key in moto, behind a meter |
//! | [`left_out`] | which tools the machine has, and what was not shown for want of one |
//! | [`seed`] | chance that can be repeated |
//! | [`programs`] | the three programs, freshly built, and a broker that runs |
//! | [`lambda`] | Lambda's runtime API, and the broker as a function behind it |
//! | [`events`] | requests as gateways hand them to a function |
//! | [`process`] | a child process that does not outlive its test |
//! | [`test_broker`] | the real broker in this process, with a clock the test sets |
//! | [`served`] | the same, served over TLS for programs to reach |
//! | [`home`] | a home folder and an environment for those programs |
//! | [`demo`] | the demo, step by step |
//! | [`terraform`] | the real Terraform in such a home |
#![expect(clippy::unwrap_used, clippy::panic, reason = "a support that fails should fail its test at once")]

pub mod demo;
pub mod dev_ca;
pub mod emulated_aws;
pub mod events;
pub mod home;
pub mod identity;
pub mod lambda;
pub mod left_out;
pub mod local_sts;
pub mod meter;
pub mod moto;
pub mod process;
pub mod programs;
pub mod proof;
pub mod seed;
pub mod served;
pub mod sigv4;
pub mod terraform;
pub mod test_broker;
