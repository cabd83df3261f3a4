//! Replaces AWS in tests: an emulator, the proxy in front of it, and a judge of IAM policies.

pub mod emulated;
mod emulator;
pub mod event_bus;
pub mod moto;
pub mod policy;
pub mod proxy;
mod python_server;
pub mod source_bucket;
