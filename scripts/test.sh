#!/usr/bin/env bash
# Runs every test of the workspace; `make test` is this script.
set -euo pipefail
cd "$(dirname "$0")/.."
started=$SECONDS

scripts/need.sh test

if cargo nextest --version >/dev/null 2>&1; then
    # nextest runs no examples of doc comments.
    cargo test --workspace --doc --quiet
    cargo nextest run --workspace --no-fail-fast
else
    cargo test --workspace --no-fail-fast
fi

printf 'make test took %d s\n' $((SECONDS - started))
