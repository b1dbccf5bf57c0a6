#!/usr/bin/env bash
# Runs every test of the workspace; `make test` is this script.
set -euo pipefail
cd "$(dirname "$0")/.."
started=$SECONDS

scripts/need.sh test

# The tests of what an unprivileged user can do need one, with subordinate ids (tests/cli_rootless.rs).
if [ "$(id -u)" = 0 ] && ! id wharftest >/dev/null 2>&1; then
    useradd --create-home --comment 'temporary user of the tests of wharf' wharftest
    trap 'userdel --remove wharftest 2>/dev/null || true' EXIT
fi

if cargo nextest --version >/dev/null 2>&1; then
    # nextest runs no examples of doc comments.
    cargo test --workspace --doc --quiet
    cargo nextest run --workspace --no-fail-fast
else
    cargo test --workspace --no-fail-fast
fi

printf 'make test took %d s\n' $((SECONDS - started))
