//! Compiles the init program of containers: `init/main.rs`, a static program without a C library, by the same compiler.

use std::path::PathBuf;
use std::process::Command;

const SOURCE: &str = "init/main.rs";

#[expect(clippy::disallowed_methods, reason = "cargo tells build scripts everything through the environment")]
fn variable(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| panic!("cargo sets {name}"))
}

fn main() {
    println!("cargo::rerun-if-changed={SOURCE}");
    println!("cargo::rerun-if-changed=build.rs");
    let program = PathBuf::from(variable("OUT_DIR")).join("init");
    // the linker that comes with the compiler: no C toolchain for the target is needed
    let flags = "--crate-name init --crate-type bin --edition 2024 -D warnings -D unsafe_code -C opt-level=s -C panic=abort \
                 -C relocation-model=static -C target-feature=+crt-static -C strip=symbols -C link-self-contained=no \
                 -C linker=rust-lld -C linker-flavor=ld.lld -C link-arg=--gc-sections";
    let mut rustc = Command::new(variable("RUSTC"));
    rustc.args(flags.split_whitespace()).args(["--target", &variable("TARGET"), SOURCE, "-o"]).arg(&program);
    let status = rustc.status().unwrap_or_else(|error| panic!("cannot start {rustc:?}: {error}"));
    assert!(status.success(), "{rustc:?} failed");
    println!("cargo::rustc-env=WHARF_INIT={}", program.display());
}
