#!/usr/bin/env bash
# Say what a Python environment is made of, in CycloneDX: `scripts/sbom.sh .venv/bin/python sbom.cdx.json`.
# What looks has an environment of its own, as requirements-sbom.lock says, which is gone afterwards.
set -euo pipefail
[ $# = 2 ] || { echo "usage: scripts/sbom.sh PYTHON FILE" >&2; exit 2; }
root=$(cd "$(dirname "$0")/.." && pwd -P)
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"$1" -m venv "$folder/env"
tool=("$folder/env/bin/python" -W ignore -m)
"${tool[@]}" pip --disable-pip-version-check --no-input install -q --no-deps --require-hashes -r "$root/requirements-sbom.lock"
# The same environment gives the same bytes.
"${tool[@]}" cyclonedx_py environment --output-reproducible --pyproject "$root/pyproject.toml" --output-file "$folder/sbom" "$1"
mv "$folder/sbom" "$2"
