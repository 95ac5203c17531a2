#!/usr/bin/env bash
# Installs each package of examples/plugins into the current environment (taoke with its extra `test` is in it already),
# and runs its tests, which try it against the contract too; or those that are named: examples/check.sh medicine speech
# Ends with the first failure. PYTHON names another interpreter.
set -euo pipefail
python=$(command -v "${PYTHON:-python}") || { echo "there is no ${PYTHON:-python}: activate an environment, or set PYTHON"; exit 2; }
case $python in /*) ;; *) python=$PWD/$python ;; esac
cd "$(dirname "$0")/.."
root=$PWD
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export TAOKE_CACHE="$work/cache"

for name in "${@:-}"; do
  [ -z "$name" ] || [ -f "examples/plugins/$name/pyproject.toml" ] || { echo "there is no package examples/plugins/$name"; exit 2; }
done
[ $# -gt 0 ] || set -- $(cd examples/plugins && ls -d */ | tr -d /)

for name in "$@"; do
  printf '\n== %s\n' "$name"
  "$python" -m pip install -q -c constraints.txt -e "examples/plugins/$name[test]"
  # in a folder of its own: what a plugin writes into the working directory stays out of the checkout
  (cd "$work" && "$python" -m pytest -q -rs -p no:cacheprovider -c "$root/examples/plugins/$name/pyproject.toml" "$root/examples/plugins/$name/tests")
done
printf '\n== all held\n'
