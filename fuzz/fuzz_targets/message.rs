#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| resnet_xla::fuzzing::parse("message", bytes));
