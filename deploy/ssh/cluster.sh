#!/usr/bin/env bash
# Ray on machines that you reach by ssh, without a scheduler:
#
#     deploy/ssh/cluster.sh up hosts.txt        start, or start what is missing
#     deploy/ssh/cluster.sh status hosts.txt
#     deploy/ssh/cluster.sh down hosts.txt      end what `up` started, and nothing else
#
# hosts.txt: one host a line as ssh knows it, the head first; the address that the others reach it by may follow it. `#` begins
# a comment. On each host the project must be at the same path as here, with its .venv (git clone, make setup), or
# TRAINYARD_DIR says where. Ports, all between the hosts, so open them in their firewalls for each other and for nobody else:
# 6379 (TRAINYARD_PORT), 8265 on the head's loopback alone, and 20000 to 20999.
set -euo pipefail

die() { printf 'ERROR: %s\n' "$1" >&2; exit "${2:-2}"; }

[ $# = 2 ] || die "say: $0 up|status|down hosts.txt"
command=$1 file=$2
[ -r "$file" ] || die "$file: cannot be read; write one host a line, the head first"
mapfile -t lines < <(sed 's/#.*//' "$file" | awk 'NF')
[ ${#lines[@]} -gt 0 ] || die "$file: names no host; write one a line, the head first"
for line in "${lines[@]}"; do
    # What goes into command lines of other machines is looked at first.
    [[ $line =~ ^[A-Za-z0-9_][A-Za-z0-9_.@-]*([[:space:]]+[A-Za-z0-9_.:-]+)?$ ]] ||
        die "$file: '$line' is no host; write a name as ssh knows it, and perhaps the address that the others reach it by"
done
read -r head address <<<"${lines[0]}"
port=${TRAINYARD_PORT:-6379}
dir=${TRAINYARD_DIR:-$(cd "$(dirname "$0")/../.." && pwd -P)}
read -ra options <<<"${TRAINYARD_SSH:--o BatchMode=yes -o ConnectTimeout=10}"
token=${RAY_AUTH_TOKEN_PATH:-$HOME/.trainyard/ray-token}

# What runs on each host. Standard input carries the token: a command line is everybody's to read.
remote() {
    cat <<'REMOTE'
set -euo pipefail
umask 077
action=$1 dir=$2 port=$3 address=$4 role=$5
here=$HOME/.trainyard/cluster-$port-$role
alive() { [ -s "$here/pid" ] && kill -0 "$(cat "$here/pid")" 2>/dev/null; }
case $action in
up)
    mkdir -p "$here"
    cat >"$here/token"
    [ -x "$dir/.venv/bin/ray" ] || { echo "no $dir/.venv/bin/ray; clone the project there and run make setup" >&2; exit 3; }
    if alive; then echo "runs already"; exit 0; fi
    export PATH=$dir/.venv/bin:$PATH RAY_AUTH_MODE=token RAY_AUTH_TOKEN_PATH=$here/token RAY_USAGE_STATS_ENABLED=0
    # A node that died is found in 4 s, one that no longer answers in 10; Ray's own settings take 30 to 60.
    export RAY_health_check_initial_delay_ms=5000 RAY_health_check_period_ms=1000
    export RAY_health_check_timeout_ms=1500 RAY_health_check_failure_threshold=4
    start=(ray start --block --disable-usage-stats "--temp-dir=/tmp/ray-$(id -u)-$port-$role" --min-worker-port=20100
        --max-worker-port=20999 --node-manager-port=20001 --object-manager-port=20002 --runtime-env-agent-port=20003
        --dashboard-agent-listen-port=20004 --dashboard-agent-grpc-port=20005 --metrics-export-port=20006)
    if [ "$role" = head ]; then
        start+=(--head "--port=$port" --dashboard-host=127.0.0.1 "--node-ip-address=$address")
    else
        start+=("--address=$address:$port")
    fi
    # Before it starts: what an earlier one said is not what this one says.
    : >"$here/log"
    # Of its own session: it stays when this connection ends.
    setsid nohup "${start[@]}" >"$here/log" 2>&1 </dev/null &
    echo $! >"$here/pid"
    for _ in $(seq 60); do
        alive || { tail -n 5 "$here/log" >&2; echo "ray ended; its words are above and in $here/log" >&2; exit 3; }
        grep -q -- '--block' "$here/log" && { echo "runs"; exit 0; }
        sleep 1
    done
    echo "ray did not say that it runs within 60 s; look into $here/log" >&2
    exit 3
    ;;
status)
    if alive; then echo "runs"; else echo "does not run"; fi
    ;;
down)
    if ! alive; then echo "does not run"; rm -rf "$here"; exit 0; fi
    pid=$(cat "$here/pid")
    # The whole session that `up` started; `ray stop` would end every Ray on the machine.
    kill -TERM "$pid"
    for _ in $(seq 20); do alive || break; sleep 0.5; done
    pkill -KILL -s "$pid" 2>/dev/null || true
    rm -rf "$here"
    echo "ended"
    ;;
esac
REMOTE
}

run_on() { # host role
    # The program goes as an argument, so that standard input is left for the token.
    # shellcheck disable=SC2029 # expanded here, quoted for there
    ssh "${options[@]}" "$1" "bash -c $(printf %q "$(remote)") -- $(printf '%q ' "$command" "$dir" "$port" "${address:-$1}" "$2")"
}

if [ "$command" = up ] && [ ! -s "$token" ]; then
    (umask 077 && mkdir -p "$(dirname "$token")" && head -c 32 /dev/urandom | od -An -tx1 | tr -d ' \n' >"$token")
fi
case $command in
up) [ -z "$(find "$token" -perm /077)" ] || die "$token: others can read it; chmod 600 it" 5 ;;
status | down) token=/dev/null ;;
*) die "$command is no command; say up, status or down" ;;
esac
[ -n "${address:-}" ] || [ "$command" != up ] || address=$(ssh "${options[@]}" "$head" hostname -I | awk '{print $1}')
[ -n "${address:-}" ] || [ "$command" != up ] || die "$head: cannot be reached by ssh, or has no address; write the address after its name" 4

failed=0
for number in "${!lines[@]}"; do
    read -r host _ <<<"${lines[$number]}"
    role=$([ "$number" = 0 ] && echo head || echo worker)
    if said=$(run_on "$host" "$role" <"$token" 2>&1); then
        echo "$host ($role): $said"
    else
        echo "$host ($role): ERROR: $said" >&2
        failed=1
        # Without a head, the others have nobody to join.
        [ "$role" = head ] && [ "$command" = up ] && break
    fi
done
[ "$failed" = 0 ] || exit 4
if [ "$command" = up ]; then
    cat <<TEXT

On the head, in $dir:
    RAY_ADDRESS=$address:$port RAY_AUTH_MODE=token RAY_AUTH_TOKEN_PATH=~/.trainyard/cluster-$port-head/token dvc repro
From here:
    ssh -N -L 8265:127.0.0.1:8265 $head &
    RAY_AUTH_MODE=token RAY_AUTH_TOKEN_PATH=$token trainyard submit evaluate@cnn --address http://127.0.0.1:8265
TEXT
fi
