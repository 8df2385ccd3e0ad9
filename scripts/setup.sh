#!/usr/bin/env bash
# Make .venv exactly as the locks say. A stamp is written last, so an interrupted installation is repaired by the next
# call: first in place, and from nothing where that does not help.
set -euo pipefail
cd "$(dirname "$0")/.."

die() { printf 'ERROR: %s\n' "$1" >&2; exit 3; }

want_dev=${1:-}
locks=(requirements.lock)
[ "$want_dev" = dev ] && locks+=(requirements-dev.lock)

python=$(command -v python3.11 || command -v python3 || true)
[ -n "$python" ] || die "no python3.11 on this machine; install it: apt-get install python3.11 python3.11-venv"
version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
[ "$version" = 3.11 ] || die "found Python $version at $python, the locks are for 3.11; install it: apt-get install python3.11 python3.11-venv"

hash=$(cat "${locks[@]}" pyproject.toml scripts/setup.sh | sha256sum | cut -c1-16)
stamp=.venv/.trainyard-${want_dev:-run}-$hash
[ -e "$stamp" ] && [ -x .venv/bin/python ] && exit 0

free=$(df -Pk . | awk 'NR == 2 { print $4 }')
if [ ! -d .venv ] && [ "$free" -lt 4000000 ]; then
    die "$PWD: $((free / 1024)) MB free, the libraries need 4,000 MB (more with CUDA); make room there"
fi
log=$(mktemp "${TMPDIR:-/tmp}/trainyard-setup.XXXXXX") || die "cannot write to ${TMPDIR:-/tmp}; make room there"
trap 'rm -f "$log"' EXIT
touch .setup.lock 2>/dev/null || die "$PWD: cannot be written to; make it writable, or clone somewhere else"
exec 9<>.setup.lock
if ! flock -n 9; then
    echo "Another setup is at work in this folder; waiting for it."
    flock 9
fi
[ -e "$stamp" ] && exit 0

install() {
    # torch goes first and by itself: its build depends on the machine (CPU, CUDA), so it can have no one hash.
    pip=(.venv/bin/python -m pip --disable-pip-version-check --no-input)
    "${pip[@]}" install -q torch==2.13.0 || return 1
    for lock in "${locks[@]}"; do
        "${pip[@]}" install -q --require-hashes --no-deps -r "$lock" || return 1
    done
    "${pip[@]}" install -q --no-deps --no-build-isolation --editable . || return 1
    .venv/bin/python -c 'import torch, ray, mlflow, dvc, onnxruntime, pytorch_lightning, trainyard.recipe'
}

echo "Setting up .venv (a few minutes the first time) ..."
[ -x .venv/bin/python ] && .venv/bin/python -c 'import pip' 2>/dev/null || rm -rf .venv
if [ ! -d .venv ]; then
    "$python" -m venv .venv >"$log" 2>&1 || {
        rm -rf .venv
        grep -q ensurepip "$log" && die "python has no venv module; install it: apt-get install python3.11-venv"
        die "$(tail -n 1 "$log")"
    }
fi
# A process that was killed half-way can leave packages that pip takes for whole; they lack a part, so a second try
# starts from nothing.
if ! install >"$log" 2>&1; then
    echo "The installation is damaged or was interrupted; starting it anew ..."
    rm -rf .venv
    "$python" -m venv .venv >"$log" 2>&1 && install >"$log" 2>&1 || {
        grep -v 'is ignored: it is' "$log" | tail -n 8 >&2
        grep -qE 'No space left|Disk quota' "$log" && die "$PWD: the disk is full; make room there and run the same command again"
        die "the libraries could not be installed (above); check the network or pip's index, then run the same command again"
    }
fi
rm -f .venv/.trainyard-"${want_dev:-run}"-*
touch "$stamp"
# What holds the tests holds the run as well.
[ "$want_dev" = dev ] && touch ".venv/.trainyard-run-$(cat requirements.lock pyproject.toml scripts/setup.sh | sha256sum | cut -c1-16)"
exit 0
