#!/bin/sh
# Installs moto's server, the Secrets Manager stand-in that tests/store_contract.rs runs against, into target/moto-venv, once.
# EVERTOKEN_MOTO may name another moto_server instead.
set -eu
cd "$(dirname "$0")/.."
venv="${CARGO_TARGET_DIR:-target}/moto-venv"
if [ -x "$venv/bin/moto_server" ]; then
    echo "$venv/bin/moto_server is there"
    exit 0
fi
# Built beside and moved as a whole, so that a broken installation is never taken for a good one. The entry point names its
# interpreter by path, so the venv is rebuilt in place when moved: hence a stamp and not a rename.
rm -rf "$venv"
python3 -m venv "$venv"
if ! "$venv/bin/pip" install --quiet 'moto[server,secretsmanager]==5.2.5'; then
    rm -rf "$venv"
    echo "moto could not be installed" >&2
    exit 1
fi
echo "$venv/bin/moto_server is there"
