//! Fuzz target: `wharf_fuzz::expand`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| wharf_fuzz::expand(bytes));
