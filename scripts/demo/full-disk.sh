#!/usr/bin/env bash
# Fills a small disk; steps.sh runs this in a mount namespace of its own, so the disk goes with it.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=show.sh
. "$here/show.sh"
# shellcheck source=leftovers.sh
. "$here/leftovers.sh"

: "${work:?}" "${registry:?}"

# fill SIZE COMMAND…: runs a command on a store that cannot hold what it makes.
fill() {
    local size=$1
    shift
    mkdir -p "$work/small"
    typed mount -t tmpfs -o "size=$size" tmpfs small
    mount -t tmpfs -o "size=$size" tmpfs "$work/small"
    mkdir "$WHARF_ROOT"
    remember_mounts
    refused 1 "$@"
    has 'no space left on device'
    has_one_hint
    run wharf --root small/store images --quiet
    [ ! -s "$work/last" ] || fail 'a half-made image is left'
    umount "$work/small"
}

cd "$work"
export WHARF_ROOT=$work/small/store
fill 20m wharf --root small/store pull "$registry/base/debian:bookworm"
fill 120m wharf --root small/store build -t bad figlet
