#!/usr/bin/env bash
# Looks for input that the Dockerfile crate and the ignore files do not stand; `make fuzz` is this script.
#
#   FUZZ_SECONDS=400 fuzz.sh [TARGET...]     seconds for each target, as many at a time as there are cores
#
# Begins with the Dockerfiles of testdata/ and keeps what it learns in fuzz/target/corpus/. Input that breaks something is shown and
# stays in fuzz/target/artifacts/; the next run begins with it. Once it is understood it belongs into fuzz/regressions/<target>/,
# which `make test` tries again.
# No sanitizer is used: the crates have no unsafe code, and so the stable toolchain will do.
set -euo pipefail
cd "$(dirname "$0")/.."

scripts/need.sh fuzz

readonly SECONDS_EACH=${FUZZ_SECONDS:-400}
targets=("$@")
[ $# -gt 0 ] || targets=(parse round_trip check expand trigger ignore)

# What one case of testdata/ is for a target.
seed() {
    local target=$1 case=$2
    case $target in
        parse | round_trip | check) cat "$case" ;;
        # what escapes and one word, and two variables
        expand) printf '%s\nA=a b\nB=/x/y.z\n' "\\$(grep -a -o '[^ ]*\$[^ ]*' "$case" | head -n 1)" ;;
        trigger) grep -a -v -i '^from' "$case" | head -n 3 || true ;;
        # a path and the patterns of a file: the sources of COPY, as far as these are patterns
        ignore) printf 'src/a.txt\n%s\n' "$(grep -a -i -E '^(copy|add) ' "$case" | tr ' ' '\n' | tail -n +2)" ;;
    esac
}

prepare() {
    local target=$1 number=0 case
    mkdir -p "fuzz/target/corpus/$target" "fuzz/target/artifacts/$target"
    find "fuzz/target/artifacts/$target" -type f -exec mv -t "fuzz/target/corpus/$target" {} +
    for case in testdata/dockerfile/*/Dockerfile testdata/check/*/Dockerfile; do
        number=$((number + 1))
        seed "$target" "$case" >"fuzz/target/corpus/$target/seed-$number"
    done
    for case in "fuzz/regressions/$target"/*; do
        [ ! -e "$case" ] || cp "$case" "fuzz/target/corpus/$target/"
    done
}

run() {
    local target=$1 TIMEFORMAT='processor seconds: %U'
    { time cargo fuzz run --sanitizer none "$target" "fuzz/target/corpus/$target" -- \
        -max_total_time="$SECONDS_EACH" -timeout=5 -rss_limit_mb=1024 -max_len=16384 -dict=fuzz/dictionary.txt \
        -artifact_prefix="fuzz/target/artifacts/$target/" -print_funcs=0 -print_final_stats=1; } >"fuzz/target/$target.log" 2>&1
}

# Prints what `pattern` finds last in the log of a target.
last() {
    sed -n "s/$2/\\1/p" "fuzz/target/$1.log" | tail -n 1
}

report() {
    local target=$1
    printf '%-12s %10s executions in %6s processor seconds, %5s edges covered, %5s inputs kept\n' "$target" \
        "$(last "$target" '^stat::number_of_executed_units: *\(.*\)')" "$(last "$target" '^processor seconds: \(.*\)')" \
        "$(last "$target" '.* cov: \([0-9]*\) .*')" "$(find "fuzz/target/corpus/$target" -type f | wc -l)"
}

show_crash() {
    local target=$1 input
    grep -a -A 12 -E 'panicked at|ERROR: libFuzzer|^error' "fuzz/target/$target.log" | sed "s/^/$target: /" || true
    for input in "fuzz/target/artifacts/$target"/*; do
        [ ! -e "$input" ] || { printf '%s:\n' "$input" && sed -n l "$input"; }
    done
}

cargo fuzz build --sanitizer none
for target in "${targets[@]}"; do
    prepare "$target"
done

export -f run
export SECONDS_EACH
failed=0
printf '%s\n' "${targets[@]}" | xargs -P "$(nproc)" -I '{}' bash -c 'run "{}"' || failed=1

for target in "${targets[@]}"; do
    report "$target"
done
if [ "$failed" = 1 ]; then
    for target in "${targets[@]}"; do
        show_crash "$target"
    done
    exit 1
fi
