//! The Terraform modules: applied by the real Terraform to an emulator, lived off by the real programs, and taken down.

mod alarms;
mod apply;
mod pages;
mod plan;
