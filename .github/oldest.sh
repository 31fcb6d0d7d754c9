#!/usr/bin/env bash
# Runs the tests in a fresh environment with the oldest releases that pyproject.toml allows:
#   .github/oldest.sh [PYTHON] [arguments of pytest]
set -euo pipefail

cd "$(dirname "$0")/.."
python=${1:-python3.10}
oldest=$(sed -nE 's/^ +"([A-Za-z0-9-]+)>=([0-9.]+)".*/\1==\2/p' pyproject.toml)
[ -n "$oldest" ] || { echo "pyproject.toml: no dependencies of the form \"NAME>=VERSION\"" >&2; exit 1; }

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"$python" -m venv "$folder"
# shellcheck disable=SC2086  # one requirement a word
"$folder/bin/pip" install --quiet $oldest -e ".[test]"
"$folder/bin/pip" list
"$folder/bin/pytest" -W default "${@:2}"  # old releases warn of what newer ones deprecated
