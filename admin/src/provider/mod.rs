//! Prepares a version of a provider: reads or repacks its archives, lists their digests, and signs the
//! list.

mod certificate;
mod folder;
mod key;
mod key_file;
mod kms_key;
mod passphrase;
mod release;
mod repack;
mod zip_file;

pub(crate) use self::folder::{ReleaseFolder, read_small};
pub(crate) use self::key::{KeySource, PublisherKey};
pub(crate) use self::kms_key::KmsKey;
pub(crate) use self::passphrase::PassphraseSource;
pub(crate) use self::release::{LocalRelease, Published, ToPublish};
pub(crate) use self::zip_file::ZipFile;
