#!/bin/sh
# Installs the checkers of the Kubernetes manifests, which work offline, into target/manifests-venv, once.
set -eu
cd "$(dirname "$0")/.."
venv="${CARGO_TARGET_DIR:-target}/manifests-venv"
if [ -x "$venv/bin/kubernetes-validate" ] && [ -x "$venv/bin/yamllint" ]; then
    echo "$venv is there"
    exit 0
fi
rm -rf "$venv"
python3 -m venv "$venv"
if ! "$venv/bin/pip" install --quiet 'kubernetes-validate==1.34.1' 'yamllint==1.37.1'; then
    rm -rf "$venv"
    echo "the checkers of the manifests could not be installed" >&2
    exit 1
fi
echo "$venv is there"
