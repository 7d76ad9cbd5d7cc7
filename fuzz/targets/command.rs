//! Commands of the log, as peers send them too: values or errors, never a panic.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| store::fuzz::command(data));
