//! Builds archives byte by byte, also archives that no packing program creates, and unpacks archives
//! with other programs.

pub mod raw_tar;
pub mod raw_zip;
pub mod unpacked;
pub mod zip_changes;
