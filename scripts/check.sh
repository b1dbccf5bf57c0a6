#!/usr/bin/env bash
# Form, lints and house rules, without running the product; `make check` is this script.
set -euo pipefail
cd "$(dirname "$0")/.."
started=$SECONDS

cargo fmt --all --check
cargo clippy --workspace --all-targets --quiet -- -D warnings
cargo test --quiet --package wharf --test tidy

mapfile -t scripts < <(find scripts .ci -type f)
for script in "${scripts[@]}"; do
    bash -n "$script"
done
if command -v shellcheck >/dev/null; then
    shellcheck --external-sources --source-path=SCRIPTDIR "${scripts[@]}"
fi

printf 'make check took %d s\n' $((SECONDS - started))
