#!/usr/bin/env bash
# The demo itself: build, look, push and pull, run, bad input, clean up, as whoever calls it.
#
#   steps.sh      with, in the environment,
#     work              an empty directory of the caller's own
#     registry          host:port of an open registry that has, or is to get, base/debian:bookworm
#     private           host:port of a registry with Basic auth, user `ann`; tokens: the same with Bearer auth
#     password          what `ann` says
#     base_tar          the Debian root filesystem; not set: the registry has the base image already
#
# and `wharf` on the PATH. demo.sh prepares all of it.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=show.sh
. "$here/show.sh"
# shellcheck source=leftovers.sh
. "$here/leftovers.sh"

: "${work:?}" "${registry:?}" "${private:?}" "${tokens:?}" "${password:?}"
export WHARF_ROOT=$work/store DOCKER_CONFIG=$work/docker
readonly BASE=$registry/base/debian:bookworm

# Starts a build context: context NAME <Dockerfile
context() {
    mkdir -p "$work/$1"
    cat >"$work/$1/Dockerfile"
}

make_base() {
    step 'A Debian root filesystem becomes a base image in the registry'
    context base <<END
FROM scratch
ADD debian.tar /
CMD ["bash"]
END
    ln "$base_tar" "$work/base/debian.tar" 2>/dev/null || cp "$base_tar" "$work/base/debian.tar"
    run cat base/Dockerfile
    run wharf build -t "$BASE" base
    run wharf push "$BASE"
}

build_figlet() {
    step '1. Build'
    context figlet <<END
FROM $BASE
RUN apt-get update
RUN apt-get -y install figlet
END
    run cat figlet/Dockerfile
    run wharf build -t deb-figlet figlet
    local first
    first=$(image_id deb-figlet)
    printf '\n(again: nothing is to be run)\n'
    run wharf build -t deb-figlet figlet
    [ "$(grep -c 'CACHED' "$work/last")" -ge 2 ] || fail 'the second build did not take both steps from the cache'
    lacks 'Reading package lists'
    same 'image ID of both builds' "$first" "$(image_id deb-figlet)"
}

build_tour() {
    step '1. Build: the other instructions, stages, .dockerignore, and what a RUN step can see'
    context tour <<'END'
ARG BASE
FROM ${BASE} AS build
ARG GREETING=hello
WORKDIR /src
COPY . .
RUN ls -A && test ! -e debug.log && printf '%s from wharf\n' "$GREETING" > greeting.txt
RUN grep -E '^(CapBnd|NoNewPrivs|Seccomp):' /proc/self/status && hostname && echo "pid $$"
RUN readlink /proc/self/ns/mnt /proc/self/ns/pid /proc/self/ns/ipc /proc/self/ns/uts /proc/self/ns/net

FROM ${BASE}
LABEL org.opencontainers.image.title="tour"
ENV GREETING_FILE=greeting.txt
ADD parts.tar.gz /opt/parts/
COPY --from=build --chown=nobody:nogroup /src/greeting.txt /opt/tour/
WORKDIR /opt/tour
VOLUME /data
EXPOSE 8080/tcp
STOPSIGNAL SIGINT
SHELL ["/bin/bash", "-o", "pipefail", "-c"]
RUN [[ -r ${GREETING_FILE} ]] && cat /opt/parts/part.txt
USER nobody
HEALTHCHECK --interval=30s CMD test -r greeting.txt
ENTRYPOINT ["cat"]
CMD ["greeting.txt"]
END
    printf '*.log\nparts\n' >"$work/tour/.dockerignore"
    printf 'not for the image\n' >"$work/tour/debug.log"
    mkdir "$work/tour/parts"
    printf 'a part out of a tar\n' >"$work/tour/parts/part.txt"
    tar -czf "$work/tour/parts.tar.gz" -C "$work/tour/parts" part.txt
    run cat tour/Dockerfile
    run wharf build -t tour --build-arg "BASE=$BASE" --build-arg GREETING=hi tour
    has 'a part out of a tar'
    grep -qE 'Seccomp:[[:space:]]*2' "$work/last" || fail 'the step ran without seccomp'
    local namespace
    for namespace in mnt pid ipc uts net; do
        grep -qE "$namespace:\[[0-9]+\]" "$work/last" || fail "the step did not show its $namespace namespace"
        lacks "$(readlink "/proc/self/ns/$namespace")"
    done
    run wharf run --rm tour
    has 'hi from wharf'
}

look() {
    step '2. Look'
    run wharf images
    has REPOSITORY TAG 'IMAGE ID' CREATED SIZE deb-figlet
    run wharf history deb-figlet
    has 'CREATED BY' 'apt-get -y install figlet'
    run wharf inspect tour
    has '"Id": "sha256:' '"8080/tcp"' '"org.opencontainers.image.title": "tour"'
    run wharf tag deb-figlet "$registry/demo/deb-figlet"
    same 'image ID under both names' "$(image_id deb-figlet)" "$(image_id "$registry/demo/deb-figlet")"
    run wharf system df
    has TYPE TOTAL ACTIVE SIZE RECLAIMABLE Images 'Build Cache'
    # Without root, files of subordinate ids are closed to the user's own du.
    [ "$(id -u)" != 0 ] || run du -sh store
}

push_and_pull() {
    step '3. Push, pull into an empty store'
    local name=$registry/demo/deb-figlet pushed
    run wharf push "$name"
    pushed=$(digest_after 'digest:')
    run wharf --root second pull "$name"
    same 'manifest digest, pushed and pulled' "$pushed" "$(digest_after 'digest:')"
    same 'image ID in both stores' "$(image_id deb-figlet)" "$(WHARF_ROOT=$work/second image_id "$name")"
    run wharf --root second images
    run wharf --root second run --rm "$name" figlet pulled

    step '3. The same image read by skopeo and umoci'
    run skopeo inspect --tls-verify=false --format '{{.Digest}} {{.Architecture}} {{len .Layers}} layers' "docker://$name"
    same 'manifest digest, for skopeo' "$pushed" "$(digest_after sha256)"
    run skopeo --insecure-policy copy --quiet --src-tls-verify=false "docker://$name" oci:layout:demo
    if [ "$(id -u)" = 0 ]; then
        run umoci unpack --image layout:demo unpacked
    else
        run umoci unpack --rootless --image layout:demo unpacked
    fi
    compare_trees
}

# Compares what umoci unpacked with what wharf built, file by file: type, mode, owner, size, time, link target, bytes.
compare_trees() {
    local owner='%U:%G' list
    # Without root, umoci cannot give files to other users.
    [ "$(id -u)" = 0 ] || owner=
    # What a container always mounts over is left out.
    # shellcheck disable=SC2016 # expanded by the shell inside
    list='cd "$0" || exit; skip="( -path ./proc -o -path ./sys -o -path ./dev -o -path ./etc/hosts -o -path ./etc/hostname
        -o -path ./etc/resolv.conf -o -path ./.dockerenv ) -prune"; set -f; export LC_ALL=C
        { find . -xdev $skip -o -type d -printf "%p d %m '"$owner"'\n" -o -printf "%p %y %m '"$owner"' %s %Ts %l\n"
          find . -xdev $skip -o -type f -exec sha256sum {} +; } | sort'
    wharf run --rm --user 0 deb-figlet sh -c "$list" / >"$work/tree-of-wharf"
    sh -c "$list" "$work/unpacked/rootfs" >"$work/tree-of-umoci"
    [ "$(wc -l <"$work/tree-of-wharf")" -gt 5000 ] || fail "the tree has only $(wc -l <"$work/tree-of-wharf") lines"
    typed diff tree-of-wharf tree-of-umoci
    diff "$work/tree-of-wharf" "$work/tree-of-umoci" || fail 'umoci unpacks another tree than wharf built'
    printf '(%d lines, no difference)\n' "$(wc -l <"$work/tree-of-wharf")"
}

# log_in ADDRESS: pushes to a registry that asks who is there.
log_in() {
    local name=$1/ann/deb-figlet
    run wharf tag deb-figlet "$name"
    refused 1 wharf push "$name"
    has "cannot push $name" 'hint:'
    typed wharf login --username ann --password-stdin "$1"
    wharf login --username ann --password-stdin "$1" <<<"not $password" 2>&1 | tee "$work/last" && fail 'a wrong password was accepted'
    typed wharf login --username ann --password-stdin "$1"
    wharf login --username ann --password-stdin "$1" <<<"$password" 2>&1 | tee "$work/last"
    has 'login succeeded'
    same 'access mode of config.json' 600 "$(stat -c %a "$DOCKER_CONFIG/config.json")"
    run wharf push "$name"
    run wharf --root second pull "$name"
    run wharf logout "$1"
    refused 1 wharf push "$name"
    run wharf rmi "$name"
    ! grep -qF "$1" "$DOCKER_CONFIG/config.json" || fail 'credentials are left after logout'
}

run_it() {
    step '4. Run'
    run wharf run --rm deb-figlet figlet hi
    has '_' '|'
    typed wharf run --rm -it deb-figlet tty
    script -qec 'wharf run --rm -it deb-figlet tty' /dev/null </dev/null | tee "$work/last"
    has /dev/pts/
    attempt wharf run --rm deb-figlet sh -c 'exit 3'
    same 'exit code of the command' 3 "$status"
    attempt wharf run --rm deb-figlet no-such-program
    same 'exit code for a program that is not there' 127 "$status"
    nothing_is_left
}

bad_input() {
    step 'Bad input: a typo'
    printf 'FROM %s\nCPOY a /\n' "$BASE" | context typo
    refused 1 wharf build -t bad typo
    # shellcheck disable=SC2016 # backticks of the message
    has 'CPOY' 'Dockerfile:2' 'did you mean `COPY`'
    has_one_hint

    step 'Bad input: a COPY source that is not there'
    printf 'FROM %s\nCOPY greetings.txt /\n' "$BASE" | context no-source
    printf 'hello\n' >"$work/no-source/greeting.txt"
    refused 1 wharf build -t bad no-source
    has 'greetings.txt' 'Dockerfile:2'
    has_one_hint

    step 'Bad input: a RUN step that fails'
    printf 'FROM %s\nRUN echo before\nRUN echo about to fail; exit 7\n' "$BASE" | context exit-7
    refused 1 wharf build -t bad exit-7
    has 'exit 7' 'Dockerfile:3' 'about to fail' '7'
    has_one_hint

    step 'Bad input: a base that nobody knows'
    printf 'FROM %s/base/plan9\n' "$registry" | context no-base
    refused 1 wharf build -t bad no-base
    has "$registry/base/plan9" 'Dockerfile:1'
    has_one_hint

    step 'Bad input: what is not built yet is refused by name and line'
    printf 'FROM %s\nRUN --device=vendor.com/class=x true\n' "$BASE" | context not-built
    refused 1 wharf build -t bad not-built
    # shellcheck disable=SC2016 # backticks of the message
    has '`RUN --device` is not built yet' 'Dockerfile:2'

    step 'Bad input: a registry that is down'
    refused 1 wharf pull localhost:1/base/debian
    has 'localhost:1' 'refused'
    has_one_hint
    no_image bad
}

# The disk of this store is a tmpfs in a mount namespace of its own.
full_disk() {
    step 'Bad input: a full disk'
    if [ "$(id -u)" = 0 ]; then
        unshare --mount "$here/full-disk.sh"
    else
        printf '(left out: mounting a small disk needs root)\n'
    fi
}

interrupt() {
    step 'Ctrl-C during a RUN step'
    printf 'FROM %s\nRUN echo finished before\nRUN sleep %s\n' "$BASE" "$LONG_SLEEP" | context interrupted
    typed wharf build -t interrupted interrupted
    # With a process group of its own, as a terminal gives one, and with SIGINT not ignored.
    set -m
    wharf build -t interrupted interrupted </dev/null >"$work/last" 2>&1 &
    local build=$! begin tries
    set +m
    for tries in {1..600}; do
        [[ $(processes) != *": sleep $LONG_SLEEP"* ]] || break
        sleep 0.1
    done
    [ "$tries" -lt 600 ] || fail 'the RUN step did not start within a minute'
    begin=$(date +%s%N)
    kill -INT -- "-$build"
    status=0
    wait "$build" || status=$?
    local milliseconds=$((($(date +%s%N) - begin) / 1000000))
    cat "$work/last"
    printf '^C\n(exit code %s after %d ms)\n' "$status" "$milliseconds"
    [ "$status" = 130 ] || fail "an interrupted build ended with exit code $status instead of 130"
    [ "$milliseconds" -lt 2000 ] || fail 'stopping took too long'
    nothing_is_left
    no_image interrupted
    printf 'FROM %s\nRUN echo finished before\nRUN echo after\n' "$BASE" | context interrupted
    run wharf build -t interrupted interrupted
    [ "$(grep -c CACHED "$work/last")" -ge 1 ] || fail 'the finished step was not kept'
    ! grep -qE '^#[0-9]+ [0-9.]+ finished before' "$work/last" || fail 'the finished step ran again'
}

clean_up() {
    step 'Clean up'
    run wharf build -t tour --build-arg "BASE=$BASE" --build-arg GREETING=bye tour
    run wharf images
    has '<none>'
    run wharf image prune --force
    has 'deleted: sha256:' 'total reclaimed space'
    run wharf rmi "$registry/demo/deb-figlet"
    has "untagged: $registry/demo/deb-figlet"
    run wharf image prune --all --force
    run wharf images --quiet
    [ ! -s "$work/last" ] || fail 'images are left'
    run wharf builder prune --all --force
    run wharf system df
    grep -qE '^Build Cache +0 +0 +0B' "$work/last" || fail 'build cache is left'
    refused 1 wharf rmi deb-figlet
    has deb-figlet
}

main() {
    cd "$work"
    mkdir "$WHARF_ROOT" "$DOCKER_CONFIG"
    remember_mounts
    [ -z "${base_tar-}" ] || make_base
    build_figlet
    build_tour
    look
    push_and_pull
    step '3. Log in to a registry with Basic auth'
    log_in "$private"
    step '3. Log in to a registry with Bearer tokens'
    log_in "$tokens"
    run_it
    bad_input
    full_disk
    interrupt
    clean_up
    nothing_is_left
}

main
exit
