//! Fuzz target: `wharf_fuzz::check`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| wharf_fuzz::check(bytes));
