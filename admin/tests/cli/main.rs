//! The program itself, run as an operator or a publisher runs it: help, refusals, and what is there afterwards.

#![expect(
    clippy::unwrap_used,
    reason = "a test stops at the first thing that is not as it must be"
)]

mod audit;
mod broker;
mod grant;
mod help;
mod module;
mod support;
mod token;
mod upload;
