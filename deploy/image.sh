#!/bin/sh
# Builds the image with buildah, without pulling anything: `deploy/image.sh TAG [BINARY]`. Without BINARY the release is built first.
# Storage and isolation are the ones that need neither a kernel module nor a daemon; EVERTOKEN_BUILDAH replaces the command, and
# EVERTOKEN_AUTHORITIES names another bundle of certificate authorities than the host's.
set -eu
tag=$1
cd "$(dirname "$0")/.."
binary=${2:-$(scripts/static.sh --release)}
bundle=${EVERTOKEN_AUTHORITIES:-/etc/ssl/certs/ca-certificates.crt}
if [ ! -s "$bundle" ]; then
    echo "$bundle is missing: install ca-certificates, or name a bundle in EVERTOKEN_AUTHORITIES" >&2
    exit 1
fi
context=$(mktemp -d)
trap 'rm -rf "$context"' EXIT
cp "$binary" "$context/evertoken"
cp "$bundle" "$context/ca-certificates.crt"
chmod 0755 "$context/evertoken"
chmod 0644 "$context/ca-certificates.crt"
mkdir -p "$context/folders/var/lib" "$context/folders/run" "$context/state" "$context/runtime"
chmod -R 0755 "$context/folders"
mkdir -m 0700 "$context/state/evertoken"
mkdir -m 0755 "$context/runtime/evertoken"
# shellcheck disable=SC2086 # a command with its options
${EVERTOKEN_BUILDAH:-buildah --storage-driver vfs} bud --isolation chroot --format oci --file deploy/Dockerfile --tag "$tag" "$context"
