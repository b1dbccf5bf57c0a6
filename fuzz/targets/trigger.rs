//! Fuzz target: `wharf_fuzz::trigger`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| wharf_fuzz::trigger(bytes));
