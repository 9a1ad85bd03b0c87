#!/usr/bin/env bash
# Try the project like a newcomer: on a bare Debian, install the packages that README.md names, and run make demo and make test.
# It needs root, debootstrap and about 8 GB in /var/tmp, and takes half an hour on two cores. Files and folders that are
# passed as arguments are visible inside, for example the configuration of a package index, or certificates.
#
#     sudo bench/newcomer.sh
#     sudo SUITE=trixie bench/newcomer.sh /etc/pip.conf
set -euo pipefail
suite=${SUITE:-bookworm}
project=$(git -C "$(dirname "$0")" rev-parse --show-toplevel)
root=$(mktemp -d /var/tmp/newcomer.XXXXXX)
chmod 755 "$root"
mounts=() # the newest first
mount_at() { # mount with these arguments, of which the last is the folder
    mount "$@"
    mounts=("${!#}" "${mounts[@]}")
}
clean() {
    for mount in "${mounts[@]}"; do umount -l "$mount"; done
    rm -rf --one-file-system "$root"
}
trap clean EXIT

mirror=(${MIRROR:-})
debootstrap --variant=minbase --include=ca-certificates "$suite" "$root" "${mirror[@]}" > /dev/null
mount_at -t proc proc "$root/proc"
mount_at --bind /dev "$root/dev"
mount_at -t tmpfs tmpfs "$root/dev/shm"
cp /etc/resolv.conf /etc/hosts "$root/etc/" # the installer writes them, but debootstrap does not
for path in "$@"; do
    if [ -d "$path" ]; then
        mkdir -p "$root$path"
        mount_at --bind "$path" "$root$path"
    else
        mkdir -p "$root$(dirname "$path")"
        cp "$path" "$root$path"
    fi
done

git clone --quiet "$project" "$root/srv/gpt2-twitch-chatter"
packages=$(sed -n 's/^ *sudo apt-get install //p' "$project/README.md")
inside() { chroot "$root" /usr/bin/env -i HOME=/root PATH=/usr/sbin:/usr/bin:/sbin:/bin LANG=C.UTF-8 bash -euc "cd /srv; $1"; }
inside "apt-get update -qq && apt-get install -qq -y --no-install-recommends $packages > /dev/null"
inside "cd gpt2-twitch-chatter && time make demo" 2>&1 | tail -n 40
inside "cd gpt2-twitch-chatter && time make test" 2>&1 | tail -n 40
