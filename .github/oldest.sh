#!/usr/bin/env bash
# Runs the tests in a fresh environment with the oldest releases that pyproject.toml allows:
#   .github/oldest.sh [PYTHON] [arguments of pytest]
set -euo pipefail

cd "$(dirname "$0")/.."
python=${1:-python3.10}
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
# of the package and its extras, but not of the tools for testing
sed -n '/^dependencies/,/^test = /p' pyproject.toml | grep -v '^test' | grep -oE '"[A-Za-z0-9-]+>=[^"]+"' |
    sed -e 's/"//g' -e 's/>=/==/' >"$folder/oldest.txt"
[ -s "$folder/oldest.txt" ] || { echo "pyproject.toml: no dependencies of the form NAME>=VERSION" >&2; exit 1; }

"$python" -m venv "$folder"
"$folder/bin/pip" install --quiet --constraint "$folder/oldest.txt" -e ".[test]"
"$folder/bin/pip" list
"$folder/bin/pytest" -W default "${@:2}"  # old releases warn of what newer ones deprecated
