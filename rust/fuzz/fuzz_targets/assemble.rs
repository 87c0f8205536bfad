//! Feeds `checks::assemble` of the core's tests.
#![no_main]
#![allow(dead_code)] // the other checks

#[path = "../../fastwrap-core/tests/it/checks/mod.rs"]
mod checks;
#[path = "../../fastwrap-core/tests/it/twins/mod.rs"]
mod twins;

libfuzzer_sys::fuzz_target!(|data: &[u8]| checks::assemble::check(data));
