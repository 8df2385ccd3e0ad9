#!/usr/bin/env bash
# Make .venv as the locks say: `scripts/setup.sh` what runs, `scripts/setup.sh dev` the tests' tools as well.
# A stamp is written last, so the next call takes up an interrupted installation: in place first, from nothing where
# that does not help.
set -euo pipefail
cd "$(dirname "$0")/.."
root=$(pwd -P)
# The Python that makes .venv is never the one in it.
unset PYTHONPATH PYTHONHOME
PATH=${PATH//"$root/.venv/bin:"/}

die() { printf 'ERROR: %s\n' "$1" >&2; exit 3; }

# The folder is part of the name: programs in .venv/bin hold its path, so a copied or moved one is no longer good.
stamp_of() { printf '.venv/.trainyard-%s-%s' "$1" "$({ cat "${@:2}" pyproject.toml scripts/setup.sh; echo "$root"; } | sha256sum | cut -c1-16)"; }
run_stamp=$(stamp_of run requirements.lock)
dev_stamp=$(stamp_of dev requirements.lock requirements-dev.lock)
if [ "${1:-run}" = dev ]; then
    locks=(requirements.lock requirements-dev.lock) stamp=$dev_stamp
else
    locks=(requirements.lock) stamp=$run_stamp
fi
[ -e "$stamp" ] && [ -x .venv/bin/python ] && exit 0

python="" seen=""
for candidate in python3.11 python3 python /usr/bin/python3.11; do
    version=$("$candidate" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null) || continue
    seen=${seen:-"found Python $version ($candidate)"}
    if [ "$version" = 3.11 ]; then python=$candidate; break; fi
done
how="apt-get install python3.11 python3.11-venv, or any other Python 3.11 on the PATH"
[ -n "$python" ] || die "${seen:-found no Python}; the libraries are locked for Python 3.11: $how"

touch .setup.lock 2>/dev/null || die "$root: cannot be written to; make it writable and not full, or clone somewhere else"
log=$(mktemp "${TMPDIR:-/tmp}/trainyard-setup.XXXXXX" 2>/dev/null) || die "${TMPDIR:-/tmp}: cannot be written to; make room there"
trap 'rm -f "$log"' EXIT
if command -v flock >/dev/null; then
    exec 9<>.setup.lock
    flock -n 9 || { echo "Another setup is at work in this folder; waiting for it ..."; flock 9; }
    [ -e "$stamp" ] && exit 0
fi
free=$(df -Pk . | awk 'NR == 2 { print $4 }')
if [ ! -d .venv ] && [ "$free" -lt 4000000 ]; then
    die "$root: $((free / 1000)) MB are free, the libraries need 4,000 MB (with CUDA, 10,000); make room there"
fi

fail() {
    grep -vE 'is ignored: it is|^ *$' "$log" | tail -n 12 >&2
    if grep -qE 'No space left|Disk quota' "$log"; then
        die "the disk of $root or ${TMPDIR:-/tmp} is full; make room and run the same command again"
    elif grep -qE 'Read-only file system|Permission denied' "$log"; then
        die "$root or ${TMPDIR:-/tmp} cannot be written to (above); make it writable and run the same command again"
    elif grep -q 'DO NOT MATCH THE HASHES' "$log"; then
        die "a package is not the one that was locked (above); pip's index serves another file: use one that serves the original"
    fi
    die "the libraries could not be installed (above); check the network and pip's index, then run the same command again"
}

create() {
    rm -rf .venv
    if ! "$python" -m venv .venv >"$log" 2>&1; then
        rm -rf .venv
        grep -qE 'ensurepip|No module named venv' "$log" && die "$python has no venv module: apt-get install python3.11-venv"
        fail
    fi
}

install() {
    local pip=(.venv/bin/python -m pip --disable-pip-version-check --no-input install -q) lock
    # torch goes first and by its version alone: its build depends on the machine (CPU, CUDA), so no one hash is right.
    "${pip[@]}" "$(grep -oE 'torch==[0-9.]+' pyproject.toml)" || return 1
    # setuptools next, so that packages without a wheel, and this one, are built with the locked one.
    "${pip[@]}" --require-hashes --no-deps -r <(sed -n '/^setuptools==/,/[0-9a-f]$/p' requirements.lock) || return 1
    for lock in "${locks[@]}"; do
        "${pip[@]}" --require-hashes --no-deps --no-build-isolation -r "$lock" || return 1
    done
    "${pip[@]}" --no-deps --no-build-isolation --editable .
}

sound() {
    .venv/bin/python scripts/half_installed.py &&
        .venv/bin/python -W ignore -c 'import torch, ray, mlflow, dvc, onnxruntime, pytorch_lightning, trainyard.recipe'
}

in_place() {
    .venv/bin/python scripts/half_installed.py --forget >"$log" 2>&1 || true
    if ! install >"$log" 2>&1; then
        # What starting anew cannot help is said; nothing that is there is thrown away for it.
        grep -qiE "$outside" "$log" && fail
        return 1
    fi
    sound >"$log" 2>&1 && .venv/bin/python -m pip check >"$log" 2>&1
}
outside='connect|timed out|network|name resolution|No matching distribution|SSL|HASHES|No space|quota|Read-only|Permission'

# How far it is: fetching takes most of the time, and pip itself says nothing for minutes.
wanted=$(cat "${locks[@]}" | grep -cE '^[A-Za-z0-9_.-]+==')
progress() {
    while sleep 20 >/dev/null 2>&1 && kill -0 $$ 2>/dev/null; do
        there=$(find .venv/lib/python3.11/site-packages -maxdepth 1 -name '*.dist-info' \
            ! -name 'pip-*' ! -name 'trainyard-*' 2>/dev/null | wc -l)
        printf '  %d:%02d min: %d of %d libraries are there\n' $((SECONDS / 60)) $((SECONDS % 60)) "$there" "$wanted"
    done
}

echo "Setting up .venv with $wanted libraries, which takes minutes ..."
progress 9>&- &
beat=$!
trap 'kill "$beat" 2>/dev/null || true; rm -f "$log"' EXIT
done=""
if .venv/bin/python -c 'import pip' 2>/dev/null && grep -qF "$root/.venv" .venv/bin/activate; then
    in_place && done=yes || echo "What is there is damaged; making .venv anew ..."
fi
if [ -z "$done" ]; then
    create
    install >"$log" 2>&1 || fail
    sound >"$log" 2>&1 || fail
fi
rm -f .venv/.trainyard-*
touch "$run_stamp" "$stamp"
echo "Set up, in $((SECONDS / 60)):$(printf %02d $((SECONDS % 60))) min. In every new terminal: source .venv/bin/activate"
