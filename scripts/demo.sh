#!/usr/bin/env bash
# Shows the main job on real input; `make demo` is this script.
#
#   release binary ─▶ Debian base ─▶ registries on loopback ─▶ demo/steps.sh (as root: again as an unprivileged user) ─▶ all gone
#
# Everything it makes is in demo-work/, of which the Debian base is kept for the next time.
set -euo pipefail
cd "$(dirname "$0")/.."
started=$SECONDS
PATH=$PATH:/usr/sbin:/sbin

readonly SUITE=bookworm DEMO_USER=wharfdemo$$ DEMO_USER_IS='temporary user of the demo of wharf'
work=$PWD/demo-work/run.$$
export work
base=$PWD/demo-work/debian-$SUITE-$(uname -m).tar

# shellcheck source=demo/show.sh
. scripts/demo/show.sh
# shellcheck source=demo/registries.sh
. scripts/demo/registries.sh

# shellcheck disable=SC2317 # called by the trap
end() {
    local code=$?
    trap - EXIT INT TERM
    stop_registries
    remove_users
    # A store can hold what only root inside of its user namespace may remove.
    rm -rf "$work" 2>/dev/null || unshare --map-root-user --map-auto rm -rf "$work" || true
    printf '\nmake demo took %d s\n' $((SECONDS - started))
    [ "$code" = 0 ] || printf 'make demo FAILED\n'
    exit "$code"
}

# What others mount meanwhile is not to be taken for something left over.
alone=()
[ "$(id -u)" != 0 ] || alone=(unshare --mount)

# Builds with cargo's own display on a terminal, and without the list of crates in a log.
build() {
    local quiet=()
    [ -t 2 ] || quiet=(--quiet)
    typed cargo build --release "$@"
    cargo build --release "${quiet[@]}" "$@" </dev/null
}

build_binary() {
    step 'The release binary'
    build --package wharf
    build --package wharf-test-support --bin test-registry
    mkdir -p "$work/bin"
    cp target/release/wharf target/release/test-registry "$work/bin/"
    export PATH=$work/bin:$PATH
    run wharf --version
}

make_base_tar() {
    step "A Debian root filesystem ($SUITE)"
    if [ -s "$base" ]; then
        printf '(kept from last time: %s)\n' "${base#"$PWD/"}"
        return
    fi
    # In a container the machine's own name servers and name mean nothing, and devices are the runtime's work.
    # shellcheck disable=SC2016 # expanded by mmdebstrap's shell
    local options=(--quiet --variant=minbase --skip=output/dev
        '--customize-hook=rm -f "$1/etc/resolv.conf" "$1/etc/hostname"' "$SUITE" "$base.part.tar")
    if [ "$(id -u)" = 0 ]; then
        run unshare --mount mmdebstrap "${options[@]}"
    else
        run mmdebstrap --mode=unshare "${options[@]}"
    fi
    mv "$base.part.tar" "$base"
}

start_registries() {
    step 'Registries on loopback: open, with Basic auth, with Bearer tokens'
    local port
    password=demo-$RANDOM$RANDOM
    port=$(free_port 5000)
    docker_registry open "$port"
    registry=localhost:$port
    port=$(free_port $((port + 1)))
    htpasswd_line ann <<<"$password" >"$work/htpasswd"
    docker_registry private "$port" "$work/htpasswd"
    private=localhost:$port
    port=$(free_port $((port + 1)))
    token_registry "$port" ann "$password"
    # The realm of its tokens is named by its address.
    tokens=127.0.0.1:$port
    export password registry private tokens
    printf '(%s, %s, %s)\n' "$registry" "$private" "$tokens"
}

steps_as_caller() {
    mkdir "$work/own"
    work=$work/own base_tar=$base "${alone[@]}" scripts/demo/steps.sh
}

# The same again without root, from copies that everybody can read.
steps_as_user() {
    step "All of it again as an unprivileged user"
    run useradd --create-home --comment "$DEMO_USER_IS" "$DEMO_USER"
    grep -q "^$DEMO_USER:" /etc/subuid || run usermod --add-subuids 300000-365535 --add-subgids 300000-365535 "$DEMO_USER"
    local home
    home=$(getent passwd "$DEMO_USER" | cut -d: -f6)
    cp -r "$work/bin" scripts/demo "$home/"
    mkdir "$home/work"
    chown "$DEMO_USER:" "$home/work"
    chmod -R a+rX "$home/bin" "$home/demo"
    (
        cd "$home"
        "${alone[@]}" setpriv --reuid "$DEMO_USER" --regid "$DEMO_USER" --init-groups -- env -i \
            HOME="$home" USER="$DEMO_USER" PATH="$home/bin:/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin" \
            work="$home/work" registry="$registry" private="$private" tokens="$tokens" password="$password" \
            "$home/demo/steps.sh"
    )
    local left
    left=$(ps_of_user "$DEMO_USER")
    [ -z "$left" ] || fail "processes of $DEMO_USER are left: $left"
}

# Lists processes of a user, by its own and its subordinate user IDs.
ps_of_user() {
    local process uid own first count
    own=$(id -u "$1" 2>/dev/null) || return 0
    IFS=: read -r _ first count < <(grep "^$1:" /etc/subuid)
    for process in /proc/[0-9]*; do
        uid=$(stat -c %u "$process" 2>/dev/null) || continue
        if [ "$uid" = "$own" ] || { [ "$uid" -ge "${first:-0}" ] && [ "$uid" -lt $((${first:-0} + ${count:-0})) ]; }; then
            printf '%s ' "${process#/proc/}"
        fi
    done
}

# Removes this demo's user with its home, and those of demos that were killed.
remove_users() {
    [ "$(id -u)" = 0 ] || return 0
    local name comment left
    while IFS=: read -r name _ _ _ comment _; do
        [ "$comment" = "$DEMO_USER_IS" ] || continue
        [ "$name" = "$DEMO_USER" ] || [ ! -d "/proc/${name#wharfdemo}" ] || continue
        left=$(ps_of_user "$name")
        # shellcheck disable=SC2086 # a list of numbers
        [ -z "$left" ] || kill -KILL $left 2>/dev/null || true
        userdel --remove "$name" 2>/dev/null || true
    done </etc/passwd
}

main() {
    mkdir -p demo-work
    scripts/need.sh demo
    trap end EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM
    mkdir -m 0755 "$work"
    remove_users
    build_binary
    make_base_tar
    start_registries
    steps_as_caller
    [ "$(id -u)" != 0 ] || steps_as_user
    step 'Everything was as it should be'
}

# In one piece, so that a change of this file does not reach a demo that is running.
main
exit
