#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| walferry_fuzz::check("records", bytes));
