# shellcheck shell=bash
# Registries on loopback for the demo. Sourced; needs show.sh.
#
# Debian's docker-registry serves openly and with Basic auth; the test registry of this repository asks for Bearer tokens.

: "${work:?}"

registry_pids=()

is_open() {
    (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null
}

# Prints the first free port from this one on.
free_port() {
    local port=$1
    while is_open "$port"; do
        port=$((port + 1))
    done
    printf '%s\n' "$port"
}

# Waits until the process that was started last serves this port.
until_open() {
    local tries
    for tries in {1..200}; do
        ! is_open "$1" || return 0
        kill -0 "${registry_pids[-1]}" 2>/dev/null || fail "the registry on port $1 ended: see $2"
        sleep 0.05
    done
    fail "the registry on port $1 did not start within $((tries / 20)) s: see $2"
}

# docker_registry NAME PORT [HTPASSWD]: starts Debian's registry with its files in $work/NAME.
docker_registry() {
    local directory=$work/$1 port=$2 htpasswd=${3-}
    mkdir -p "$directory"
    {
        printf 'version: 0.1\nlog:\n  level: warn\n  accesslog:\n    disabled: true\n'
        printf 'storage:\n  filesystem:\n    rootdirectory: %s\n' "$directory/files"
        printf 'http:\n  addr: 127.0.0.1:%s\n' "$port"
        [ -z "$htpasswd" ] || printf 'auth:\n  htpasswd:\n    realm: demo\n    path: %s\n' "$htpasswd"
    } >"$directory/config.yml"
    docker-registry serve "$directory/config.yml" </dev/null >"$directory/log" 2>&1 &
    registry_pids+=($!)
    until_open "$port" "$directory/log"
}

# token_registry PORT USER PASSWORD: starts the registry that asks for tokens.
token_registry() {
    test-registry --listen "127.0.0.1:$1" --auth bearer --user "$2" --password "$3" \
        </dev/null >"$work/token-registry.log" 2>&1 &
    registry_pids+=($!)
    until_open "$1" "$work/token-registry.log"
}

# Prints a line for an htpasswd file; the password comes from standard input.
htpasswd_line() {
    local crypt
    # shellcheck disable=SC2016 # the dollars are bcrypt's
    crypt='chomp(my $password = <STDIN>); print crypt($password, q($2b$05$) . q(wharfdemowharfdemowhau)), "\n"'
    printf '%s:%s\n' "$1" "$(perl -e "$crypt")"
}

stop_registries() {
    [ ${#registry_pids[@]} = 0 ] || kill "${registry_pids[@]}" 2>/dev/null || true
    wait
    registry_pids=()
}
