# shellcheck shell=bash
# Commands as a person would type them, with their output, and checks of both. Sourced.
#
# Every function ends the demo at the first thing that is not as it should be. Needs: $work, a directory of the demo's own.

: "${work:?}"

# Prints a heading.
step() {
    printf '\n\n== %s\n' "$*"
}

# Ends the demo.
fail() {
    printf '\ndemo failed: %s\n' "$*" >&2
    exit 1
}

# Prints a command line that could be pasted.
typed() {
    local word line=
    for word in "$@"; do
        if [[ $word =~ ^[A-Za-z0-9_./:=@,+%-]+$ ]]; then
            line+=" $word"
        else
            line+=" '${word//\'/\'\\\'\'}'"
        fi
    done
    printf '\n$%s\n' "$line"
}

# Shows a command and its output, which stays in $work/last; sets $status.
attempt() {
    typed "$@"
    status=0
    "$@" </dev/null 2>&1 | tee "$work/last" || status=${PIPESTATUS[0]}
}

# Shows a command that has to succeed.
run() {
    attempt "$@"
    [ "$status" = 0 ] || fail "\`$*\` ended with exit code $status"
}

# Shows a command that has to end with this exit code and exactly one hint, and checks that nothing is left of it.
refused() {
    local code=$1
    shift
    attempt "$@"
    printf '(exit code %s)\n' "$status"
    [ "$status" = "$code" ] || fail "\`$*\` ended with exit code $status instead of $code"
    lacks 'panicked'
    nothing_is_left
}

# Checks that the last output has each of these texts.
has() {
    local text
    for text in "$@"; do
        grep -qiF -e "$text" "$work/last" || fail "the output above lacks \`$text\`"
    done
}

# Checks that the last output has none of these texts.
lacks() {
    local text
    for text in "$@"; do
        ! grep -qiF -e "$text" "$work/last" || fail "the output above has \`$text\`"
    done
}

# Checks that the last output gives one hint.
has_one_hint() {
    [ "$(grep -c '^hint: ' "$work/last")" = 1 ] || fail 'the error above does not give exactly one hint'
}

# Checks that two values are the same.
same() {
    [ "$2" = "$3" ] || fail "$1: \`$2\` is not \`$3\`"
    printf '(%s: the same)\n' "$1"
}

# Prints the first digest of the last output that stands behind this text.
digest_after() {
    grep -iF -e "$1" "$work/last" | grep -oE 'sha256:[0-9a-f]{64}' | head -n 1
}

# Prints the ID of an image.
image_id() {
    wharf inspect "$1" | sed -nE 's/^ *"Id": "(sha256:[0-9a-f]{64})".*/\1/p' | head -n 1
}

# Checks that no image of this name came to be.
no_image() {
    ! wharf inspect "$1" >/dev/null 2>&1 || fail "the failed command left an image $1"
}
