//! Hands the fuzzer's bytes to `stile_broker::fuzz::request_document`, where it says what must hold.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    stile_broker::fuzz::request_document(bytes);
});
