//! Feeds `checks::stream` of the core's tests.
#![no_main]

#[path = "../../fastwrap-core/tests/checks/mod.rs"]
mod checks;
#[path = "../../fastwrap-core/tests/twins/mod.rs"]
mod twins;

libfuzzer_sys::fuzz_target!(|data: &[u8]| checks::stream::check(data));
