//! Shares code between the suite, the demo, the soak and the benchmark.
//!
//! It has emulators, identities, certificates, and the programs under test.
//!
//! | module | contents |
//! |---|---|
//! | [`aws`] | an emulated AWS, the proxy in front of it, and a judge of IAM policies |
//! | [`sts`] | throw-away identities, proofs that they sign, and a local STS that verifies signatures |
//! | [`process`] | the three programs, child processes, home folders and Python environments |
//! | [`broker`] | the real broker in the process of a test, in memory or over TLS, and its log |
//! | [`between`] | a layer in front of the broker that holds, answers or cuts one request |
//! | [`jwt`] | JWTs that other libraries sign, and an issuer over HTTPS on loopback |
//! | [`lambda`] | the runtime API of Lambda, gateway events, and a function URL |
//! | [`terraform`] | the real Terraform, its AWS provider, and the state backend module |
//! | [`provider`] | providers: their files, the keys of their publishers, GnuPG, and publishers over HTTP |
//! | [`store_home`] | a store without a broker, and a home whose `stile-admin` uses it |
//! | [`audited_registry`] | a store with signed audit chains, and a hand that changes its rows |
//! | [`git_server`] | a git repository over HTTPS on loopback |
//! | [`github_actions`] | the service of GitHub Actions that signs JWTs for a job |
//! | [`static_server`] | servers of static files over HTTPS: one in the process, and nginx |
//! | [`webhook_receiver`] | a receiver of webhooks over HTTPS on loopback |
//! | [`issuer`] | an issuer of JWTs over HTTPS on loopback, its keys, and the JWTs that it signs |
//! | [`raw_archive`] | archives byte by byte, with random changes, and unpacked by other programs |
//! | [`dev_ca`] | a certificate authority for one test |
//! | [`permissions`] | programs that file permissions bind even as root |
//! | [`small_disk`] | a small file system in memory, which a test can fill |
//! | [`time_limits`] | how long tests wait, and a clock that jumps to deadlines |
//! | [`seed`] | random numbers that a seed repeats |
//! | [`skipped`] | the tools on `PATH`, and the list of tests that were skipped without a tool |
//! | [`demo`] | the demo, step by step |
//! | [`soak`] | the released broker under good and bad requests for minutes |
//! | [`mod@bench`] | the search, measured next to a read of `versions` |
//! | [`many_modules`] | a store with thousands of modules |
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a helper that fails must fail its test at once"
)]

pub mod audited_registry;
pub mod aws;
pub mod bench;
pub mod between;
pub mod broker;
pub mod demo;
pub mod dev_ca;
pub mod git_server;
pub mod github_actions;
pub mod issuer;
pub mod jwt;
pub mod lambda;
pub mod many_modules;
pub mod permissions;
pub mod process;
pub mod provider;
pub mod raw_archive;
pub mod seed;
pub mod skipped;
pub mod small_disk;
pub mod soak;
pub mod static_server;
pub mod store_home;
pub mod sts;
pub mod terraform;
pub mod time_limits;
pub mod webhook_receiver;
