//! See `bodies::debt_record`.
#![no_main]

#[path = "../../crates/larder/tests/fuzz/bodies.rs"]
#[allow(dead_code, reason = "each target uses its own body")]
mod bodies;

libfuzzer_sys::fuzz_target!(|data: &[u8]| bodies::debt_record(data));
