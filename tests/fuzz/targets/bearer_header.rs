//! Hands the fuzzer's bytes to `stile_broker::fuzz::bearer_header`, where it says what must hold.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    stile_broker::fuzz::bearer_header(bytes);
});
