//! Tests of the program as a process: help, output, errors and effects.

#![expect(clippy::unwrap_used, reason = "a test may panic at the first unexpected result")]

mod audit;
mod broker;
mod ended;
mod grant;
mod help;
mod module;
mod namespace;
mod output;
mod publish;
mod registry_host;
mod support;
mod token;
mod upload;
mod usage;
mod webhook;
