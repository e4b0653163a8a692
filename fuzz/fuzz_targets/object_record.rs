//! See `object::object_record`.
#![no_main]

#[path = "../../crates/larder/tests/fuzz/object.rs"]
#[allow(dead_code, reason = "the seeds are for the sample among the tests")]
mod object;

libfuzzer_sys::fuzz_target!(|data: &[u8]| object::object_record(data));
