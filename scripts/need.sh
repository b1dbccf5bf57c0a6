#!/usr/bin/env bash
# Makes sure that the programs which the tests, the demo and the fuzzer drive are here.
#
#   need.sh test|demo|fuzz
#
# This is the one list of Debian packages. As root on a Debian system the missing ones are installed; otherwise the one
# command to run is named and the exit code is 1. The fuzzer's driver is a crate, which cargo installs.
set -euo pipefail

# program                       package
readonly ALWAYS='
cc                              gcc
/usr/include/stdlib.h           libc6-dev
newuidmap                       uidmap
docker-registry                 docker-registry
skopeo                          skopeo
umoci                           umoci
'
readonly TEST='
git                             git
ssh-keygen                      openssh-client
strace                          strace
mkfs.ext4                       e2fsprogs
busybox                         busybox-static
'
readonly DEMO='
mmdebstrap                      mmdebstrap
perl                            perl-base
script                          bsdutils
'
readonly FUZZ='
c++                             g++
'

PATH=$PATH:/usr/sbin:/sbin

is_here() {
    case $1 in
        /*) [ -e "$1" ] ;;
        # A container has none of the libraries of this system, so it must be the static one.
        busybox) command -v busybox >/dev/null && ! ldd "$(command -v busybox)" >/dev/null 2>&1 ;;
        *) command -v "$1" >/dev/null ;;
    esac
}

missing_packages() {
    while read -r program package; do
        [ -z "$program" ] || is_here "$program" || printf '%s\n' "$package"
    done <<<"$1"
}

install() {
    apt-get install -y -qq --no-install-recommends "$@" </dev/null >/dev/null
}

need_packages() {
    local packages command_to_run
    mapfile -t packages < <(missing_packages "$wanted")
    [ ${#packages[@]} -gt 0 ] || return 0

    command_to_run="apt-get install --no-install-recommends ${packages[*]}"
    if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
        printf 'these Debian packages are missing; as root, run\n\n    %s\n\n' "$command_to_run" >&2
        return 1
    fi

    printf 'installing %s\n' "${packages[*]}" >&2
    export DEBIAN_FRONTEND=noninteractive
    # A fresh machine has no package lists, an old one has lists that name files which are gone.
    if ! install "${packages[@]}" 2>/dev/null; then
        apt-get update -qq </dev/null
        install "${packages[@]}"
    fi

    mapfile -t packages < <(missing_packages "$wanted")
    if [ ${#packages[@]} -gt 0 ]; then
        printf 'still missing after the installation: %s\n' "${packages[*]}" >&2
        return 1
    fi
}

need_cargo_fuzz() {
    cargo fuzz --version >/dev/null 2>&1 || cargo install --quiet --locked cargo-fuzz
}

case ${1-} in
    test) wanted=$ALWAYS$TEST ;;
    demo) wanted=$ALWAYS$DEMO ;;
    fuzz) wanted=$FUZZ ;;
    *) printf 'usage: need.sh test|demo|fuzz\n' >&2; exit 2 ;;
esac

if ! command -v cargo >/dev/null; then
    printf 'cargo is missing: install Rust 1.95 or newer with rustup\n' >&2
    exit 1
fi

need_packages
# Only now is there a linker for it.
[ "$1" != fuzz ] || need_cargo_fuzz
