//! Messages of other members: values or errors, never a panic.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| store::fuzz::message(data));
