#!/usr/bin/env bash
# Looks for input that the Dockerfile crate does not stand; `make fuzz` is this script.
#
#   FUZZ_SECONDS=400 fuzz.sh [TARGET...]     seconds for each target, as many at a time as there are cores
#
# Begins with the Dockerfiles of testdata/ and keeps what it learns in fuzz/target/corpus/. Input that breaks something is shown and
# stays in fuzz/target/artifacts/; once it is understood it belongs into fuzz/regressions/<target>/, which `make test` tries again.
# No sanitizer is used: the crate has no unsafe code, and so the stable toolchain will do.
set -euo pipefail
cd "$(dirname "$0")/.."

scripts/need.sh fuzz

readonly SECONDS_EACH=${FUZZ_SECONDS:-400}
targets=("$@")
[ $# -gt 0 ] || targets=(parse round_trip check expand trigger)

seed() {
    local target=$1 case number=0
    mkdir -p "fuzz/target/corpus/$target" "fuzz/target/artifacts/$target"
    for case in testdata/dockerfile/*/Dockerfile testdata/check/*/Dockerfile; do
        number=$((number + 1))
        case $target in
            parse | round_trip | check) cp "$case" "fuzz/target/corpus/$target/seed-$number" ;;
            # one word with two variables, and one instruction
            expand) printf '%s\nA=a b\nB=/x/y.z\n' "\\$(grep -a -o '[^ ]*\$[^ ]*' "$case" | head -n 1)" >"fuzz/target/corpus/$target/seed-$number" ;;
            trigger) grep -a -v -i '^from' "$case" | head -n 3 >"fuzz/target/corpus/$target/seed-$number" || true ;;
        esac
    done
}

run() {
    local target=$1
    cargo fuzz run --sanitizer none "$target" "fuzz/target/corpus/$target" -- \
        -max_total_time="$SECONDS_EACH" -timeout=5 -rss_limit_mb=1024 -max_len=16384 -dict=fuzz/dictionary.txt \
        -artifact_prefix="fuzz/target/artifacts/$target/" \
        -verbosity=0 -print_final_stats=1 >"fuzz/target/$target.log" 2>&1
}

cargo fuzz build --sanitizer none
for target in "${targets[@]}"; do
    seed "$target"
done

export -f run
export SECONDS_EACH
failed=0
printf '%s\n' "${targets[@]}" | xargs -P "$(nproc)" -I '{}' bash -c 'run "{}"' || failed=1

for target in "${targets[@]}"; do
    log=fuzz/target/$target.log
    printf '%-12s %s executions, %s inputs kept\n' "$target" \
        "$(sed -n 's/^stat::number_of_executed_units: *//p' "$log")" "$(find "fuzz/target/corpus/$target" -type f | wc -l)"
done
if [ "$failed" = 1 ]; then
    for target in "${targets[@]}"; do
        grep -a -A 12 -E 'panicked at|ERROR: libFuzzer' "fuzz/target/$target.log" | sed "s/^/$target: /" || true
        find "fuzz/target/artifacts/$target" -type f -printf '%p:\n' -exec sed -n l '{}' ';' 2>/dev/null || true
    done
    exit 1
fi
