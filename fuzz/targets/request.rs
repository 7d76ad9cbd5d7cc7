//! gRPC messages, and what becomes of them: values or errors, never a panic.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| etcd::fuzz::request(data));
