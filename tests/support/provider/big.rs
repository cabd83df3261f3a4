//! The folder of a release whose zip archive is large.

use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::path::Path;

use zip::CompressionMethod;
use zip::write::SimpleFileOptions;

use super::dist::ProviderDist;

/// The bytes that are written at once.
const BLOCK: usize = 1 << 20;

/// Writes the folder of a release without signature: a manifest, small archives for two platforms, and
/// one for [`PLATFORM`](super::plugin::PLATFORM) whose executable has that many bytes.
///
/// The bytes follow from the seed, and no program can compress them. They go to disk block by block.
pub fn write_big_dist(folder: &Path, kind: &str, version: &str, bytes: usize, seed: u64) {
    let small = ProviderDist::new(kind, version, &["darwin_arm64", "windows_amd64"]);
    for (platform, zip) in &small.zips {
        std::fs::write(folder.join(small.zip_name(platform)), zip).unwrap();
    }
    std::fs::write(folder.join(small.manifest_name()), small.manifest()).unwrap();
    let file = File::create(folder.join(small.zip_name(super::plugin::PLATFORM))).unwrap();
    let mut zip = zip::ZipWriter::new(BufWriter::with_capacity(BLOCK, file));
    let options = SimpleFileOptions::default()
        .compression_method(CompressionMethod::Stored)
        .last_modified_time(zip::DateTime::default())
        .unix_permissions(0o755);
    zip.start_file(format!("terraform-provider-{kind}_v{version}"), options).unwrap();
    let (mut state, mut left, mut block) = (seed, bytes, vec![0; BLOCK]);
    while left > 0 {
        let now = left.min(BLOCK);
        for word in block.chunks_exact_mut(8) {
            word.copy_from_slice(&next(&mut state).to_le_bytes());
        }
        zip.write_all(&block[..now]).unwrap();
        left -= now;
    }
    zip.finish().unwrap().into_inner().unwrap();
}

/// Returns the next number of SplitMix64 (Steele, Lea and Flood, 2014).
const fn next(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mixed = (*state ^ (*state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_archive_which_is_as_large_as_its_executable() {
        let archive = |seed| {
            let folder = tempfile::tempdir().unwrap();
            write_big_dist(folder.path(), "dns", "1.0.0", 3 * BLOCK + 5, seed);
            assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 4);
            let name = "terraform-provider-dns_1.0.0_linux_amd64.zip";
            std::fs::read(folder.path().join(name)).unwrap()
        };
        let (one, same, other) = (archive(1), archive(1), archive(2));
        assert!(one == same && one != other);
        assert!((3 * BLOCK + 5..4 * BLOCK).contains(&one.len()), "{}", one.len());
    }
}
