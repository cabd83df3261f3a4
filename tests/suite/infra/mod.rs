//! The Terraform modules: real Terraform applies them to an emulator, real programs use the result,
//! and Terraform destroys it.

mod alarms;
mod apply;
mod lists;
mod pages;
mod plan;
mod scanners;
mod state_backend;
