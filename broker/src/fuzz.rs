//! The list of fuzz targets. Each passes its bytes to one parser, and asserts what must always
//! hold.
//!
//! The service does not contain this module: only tests and the programs in `tests/fuzz/` do. Each
//! target is next to the parser that it tests, so the parser can stay private.

pub use crate::authn::jwt::fuzz::jwt;
pub use crate::authn::sigv4::fuzz::{request_body, request_document, sts_answer};
pub use crate::http::fuzz::{bearer_header, lambda_event};
pub use stile_core::fuzz::{
    Verdict, archive, arn, is_plain, provider_signature, signing_key, source, sums, token,
};
pub use stile_metadata::fuzz::module_files;

/// A fuzz target.
pub type Target = fn(&[u8]) -> Verdict;

/// All targets, with the name of the program and of the folder with seeds.
pub const TARGETS: [(&str, Target); 14] = [
    ("request_body", request_body),
    ("request_document", request_document),
    ("sts_answer", sts_answer),
    ("jwt", jwt),
    ("bearer_header", bearer_header),
    ("token", token),
    ("arn", arn),
    ("archive", archive),
    ("lambda_event", lambda_event),
    ("module_files", module_files),
    ("source", source),
    ("sums", sums),
    ("signing_key", signing_key),
    ("provider_signature", provider_signature),
];

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::{Path, PathBuf};

    use super::*;

    fn below(path: &str) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests").join(path)
    }

    fn names(folder: &Path) -> Vec<String> {
        let mut names: Vec<_> = fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort_unstable();
        names
    }

    /// Tests the seeds (`taken-…`, `refused-…`), and every input that once caused a crash
    /// (`crash-…`).
    #[test]
    fn every_seed_and_every_past_crash_has_the_verdict_in_its_name() {
        for (target, run) in TARGETS {
            let folder = below("fixtures/fuzz").join(target);
            let (mut taken, mut refused) = (0, 0);
            for name in names(&folder) {
                let verdict = run(&fs::read(folder.join(&name)).unwrap());
                let (seen, expected) = match name.split('-').next() {
                    Some("taken") => (&mut taken, Some(Verdict::Accepted)),
                    Some("refused") => (&mut refused, Some(Verdict::Rejected)),
                    Some("crash") => (&mut refused, None),
                    _ => panic!("{target}/{name} does not begin with a verdict"),
                };
                assert!(
                    expected.is_none_or(|expected| expected == verdict),
                    "{target}/{name}: {verdict:?}"
                );
                *seen += 1;
            }
            assert!(taken > 0 && refused > 0, "{target} has a seed of each kind");
        }
    }

    #[test]
    fn every_target_has_seeds() {
        let mut targets: Vec<_> = TARGETS.iter().map(|(name, _)| (*name).to_owned()).collect();
        targets.sort_unstable();
        assert_eq!(names(&below("fixtures/fuzz")), targets);
    }
}
