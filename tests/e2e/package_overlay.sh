#!/bin/sh
# Usage: package_overlay.sh FOLDER DEB SCRIPT, in a mount namespace of its own (unshare --mount).
# Makes a throw-away copy of this system, an overlay whose changes live in memory, and runs the script in it.
set -eu
mount -t tmpfs tmpfs "$1"
mkdir "$1/upper" "$1/work" "$1/root"
mount -t overlay overlay -o "lowerdir=/,upperdir=$1/upper,workdir=$1/work" "$1/root"
mount -t proc proc "$1/root/proc"
mount --rbind /dev "$1/root/dev"
mount -t tmpfs tmpfs "$1/root/run"
mount -t tmpfs tmpfs "$1/root/tmp"
cp "$2" "$1/root/tmp/soniqd.deb"
cp "$3" "$1/root/tmp/try.sh"
touch "$1/root/tmp/throw-away"
exec chroot "$1/root" /bin/sh /tmp/try.sh
