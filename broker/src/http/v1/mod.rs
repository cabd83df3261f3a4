//! The handlers below `/v1`, one file for each resource. Each parses a request, calls one use case and renders its answer.

pub(super) mod archives;
pub(super) mod exchange;
pub(super) mod gateway;
pub(super) mod modules;
pub(super) mod publish;
pub(super) mod uploads;
pub(super) mod whoami;
