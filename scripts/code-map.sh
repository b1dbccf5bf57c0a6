#!/usr/bin/env bash
# shellcheck disable=SC2016 # the backticks are those of Markdown
# Writes the code map of ARCHITECTURE.md anew: every source file with the first sentence of its documentation.
set -euo pipefail
cd "$(dirname "$0")/.."

readonly CRATES='oci layer-store http-transport registry-client remote-files ssh-agent runtime builder/dockerfile builder . tests/support benches fuzz'

# Prints the first sentence of a file's `//!` documentation.
sentence() {
    awk '
        /^\/\/!$/ || !/^\/\/!/ { exit }
        { text = text (text == "" ? "" : " ") substr($0, 5) }
        END { end = index(text, ". "); print end ? substr(text, 1, end) : text }
    ' "$1" | sed -E 's/\[(`[^`]*`)\]/\1/g; s/\|/\\|/g'
}

code_map() {
    local crate source file
    for crate in $CRATES; do
        source=${crate#./}/src
        source=${source#./}
        printf '### `%s/`\n\n| file | |\n|---|---|\n' "$source"
        find "$source" -name '*.rs' | LC_ALL=C sort | while read -r file; do
            printf '| `%s` | %s |\n' "${file#"$source/"}" "$(sentence "$file")"
        done
        printf '\n'
    done
}

{
    sed '/^<!-- code map/q' ARCHITECTURE.md
    printf '\n'
    code_map
    sed -n '/^<!-- end of the code map/,$p' ARCHITECTURE.md
} >ARCHITECTURE.md.new
mv ARCHITECTURE.md.new ARCHITECTURE.md
