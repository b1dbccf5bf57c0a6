//! Fuzz target: `wharf_fuzz::parse`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| wharf_fuzz::parse(bytes));
