//! A store on a damaged disk: its log and its checkpoint: values or errors, never a panic.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| store::fuzz::files(data));
