# shellcheck shell=bash
# What a command may not leave behind: mounts, processes, unfinished files. Sourced; needs show.sh and $WHARF_ROOT.

: "${work:?}"

# Unlikely enough to be found again among all command lines.
readonly LONG_SLEEP=86399

# Remembers what is mounted before anything runs.
remember_mounts() {
    mounts=$(sort /proc/self/mounts)
}

# Lists processes of the demo: those running the program, those seeing a mount out of the store, and the long sleep.
processes() {
    local process
    for process in /proc/[0-9]*; do
        if [ "$(readlink "$process/exe" 2>/dev/null)" = "$(command -v wharf)" ] ||
            grep -qsF "$WHARF_ROOT" "$process/mountinfo" 2>/dev/null ||
            [ "$(tr '\0' ' ' 2>/dev/null <"$process/cmdline")" = "sleep $LONG_SLEEP " ]; then
            printf '%s: %s\n' "${process#/proc/}" "$(tr '\0' ' ' 2>/dev/null <"$process/cmdline")"
        fi
    done
}

# Lists unfinished work in a store.
unfinished() {
    find "$1/tmp" "$1/leases" -mindepth 1 ! -path "$1/leases/lock" 2>/dev/null || true
}

# Checks that the commands which have ended left nothing.
nothing_is_left() {
    diff <(printf '%s\n' "$mounts") <(sort /proc/self/mounts) >"$work/left" || fail "mounts are left: $(cat "$work/left")"
    processes >"$work/left"
    [ ! -s "$work/left" ] || fail "processes are left: $(cat "$work/left")"
    unfinished "$WHARF_ROOT" >"$work/left"
    [ ! -s "$work/left" ] || fail "temporary files are left: $(cat "$work/left")"
    printf '(no mount, process or temporary file is left)\n'
}
