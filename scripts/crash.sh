#!/usr/bin/env bash
# Breaks every command of tests/crash/scene.rs off at every point, by SIGKILL and by a full disk, and kills at random moments besides;
# `make crash` is this script. `make test` does the same at some of the points.
set -euo pipefail
cd "$(dirname "$0")/.."
started=$SECONDS

scripts/need.sh test
cargo test --quiet --package wharf --test cli_crash -- every-point

printf 'make crash took %d s\n' $((SECONDS - started))
