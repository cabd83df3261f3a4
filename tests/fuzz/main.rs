//! Passes libFuzzer's bytes to the fuzz target that `STILE_FUZZ_TARGET` names.
#![no_main]

use std::sync::LazyLock;

use stile_broker::fuzz::{TARGETS, Target};

static CHOSEN: LazyLock<Target> = LazyLock::new(|| {
    let name = std::env::var("STILE_FUZZ_TARGET").unwrap_or_default();
    let found = TARGETS.iter().find(|(target, _)| *target == name);
    found.unwrap_or_else(|| panic!("`STILE_FUZZ_TARGET` names no fuzz target: `{name}`")).1
});

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    CHOSEN(bytes);
});
