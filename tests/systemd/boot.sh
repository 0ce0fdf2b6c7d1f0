#!/bin/sh
# Boots this host's own files under a systemd of their own, as root: `boot.sh SCRATCH EVERTOKEN`. SCRATCH is an empty folder, EVERTOKEN
# the binary to show as /usr/bin/evertoken.
#
# All that the machine writes goes to a memory file system in the caller's mount namespace, so nothing is left behind and
# nothing of the host changes. It has a network of its own, so its ports meet nobody's.
set -eu
scratch=$1
evertoken=$2

mount -t tmpfs -o mode=0755,size=512m machine "$scratch"
mkdir "$scratch/upper" "$scratch/work" "$scratch/root"
mount -t overlay -o "lowerdir=/,upperdir=$scratch/upper,workdir=$scratch/work" machine "$scratch/root"
cd "$scratch/root"
# What the host has enabled is not under test, and some of it would wait for hardware.
rm -rf etc/systemd/system/*.wants etc/evertoken usr/bin/evertoken var/log/journal
: > etc/fstab
# Without an id of its own the machine takes the host's boot for its own, and journald mixes them. An empty one would make this a
# first boot, which enables every unit there is.
uuid=$(cat /proc/sys/kernel/random/uuid)
echo "$uuid" | tr -d - > etc/machine-id
cd /
exec systemd-nspawn --quiet --directory="$scratch/root" --bind-ro="$evertoken:/usr/bin/evertoken" --register=no --keep-unit \
    --private-network --uuid="$uuid" --hostname=evertoken-test --console=pipe --link-journal=no \
    /lib/systemd/systemd --system --unit=basic.target
