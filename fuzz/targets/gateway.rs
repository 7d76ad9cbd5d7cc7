//! The JSON gateway: requests and answers: values or errors, never a panic.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| etcd::fuzz::gateway(data));
