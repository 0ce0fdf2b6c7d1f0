#!/bin/sh
# Installs from Debian, by name, what the deployment tests drive: a real systemd to boot (systemd-container), an image builder that
# needs no daemon (buildah), a TLS server (openssl), and what scripts/manifests.sh starts from. Run as root; what is there already is
# not touched.
set -eu
packages="systemd systemd-container util-linux buildah openssl ca-certificates python3-venv"
missing=""
for package in $packages; do
    dpkg-query --show --showformat='${db:Status-Status}' "$package" 2>/dev/null | grep -qx installed || missing="$missing $package"
done
[ -n "$missing" ] || exit 0
export DEBIAN_FRONTEND=noninteractive
# shellcheck disable=SC2086 # a list of names
apt-get install --quiet --yes --no-install-recommends $missing || {
    apt-get update --quiet
    apt-get install --quiet --yes --no-install-recommends $missing
}
