#!/usr/bin/env bash
# Try the project like a newcomer: on a bare Debian, install the packages that README.md names, run make demo and make test,
# and then the commands of README.md's "Your own chat", as they stand there, on a log of each format and the tiny model.
# It needs root, debootstrap and about 8 GB in /var/tmp, and takes half an hour on two cores. Files and folders that are
# passed as arguments are visible inside, for example the configuration of a package index, or certificates.
#
#     sudo bench/newcomer.sh
#     sudo SUITE=trixie TARGETS=demo bench/newcomer.sh /etc/pip.conf
set -euo pipefail
suite=${SUITE:-bookworm}
targets=${TARGETS:-demo test}
project=$(git -C "$(dirname "$0")" rev-parse --show-toplevel)
if [ -z "${ROOT:-}" ]; then # what is mounted below is mounted for the inner run only, and gone before the folder is removed
    ROOT=$(mktemp -d /var/tmp/newcomer.XXXXXX)
    trap 'rm -rf --one-file-system "$ROOT"' EXIT
    chmod 755 "$ROOT"
    ROOT=$ROOT unshare --mount "$0" "$@"
    exit
fi
root=$ROOT

mirror=(${MIRROR:-})
debootstrap --variant=minbase --include=ca-certificates "$suite" "$root" "${mirror[@]}" > /dev/null
mount -t proc proc "$root/proc"
mount --bind /dev "$root/dev"
mount -t devpts devpts "$root/dev/pts"
mount -t tmpfs tmpfs "$root/dev/shm"
cp /etc/resolv.conf /etc/hosts "$root/etc/" # the installer writes them, but debootstrap does not
for path in "$@"; do
    if [ -d "$path" ]; then
        mkdir -p "$root$path"
        mount --bind "$path" "$root$path"
    else
        mkdir -p "$root$(dirname "$path")"
        cp "$path" "$root$path"
    fi
done

git clone --quiet "$project" "$root/srv/gpt2-twitch-chatter"
packages=$(sed -n 's/^ *sudo apt-get install //p' "$project/README.md")
inside() {
    chroot "$root" /usr/bin/env -i HOME=/srv DEBIAN_FRONTEND=noninteractive PATH=/usr/sbin:/usr/bin:/sbin:/bin LANG=C.UTF-8 \
        bash -euc "cd /srv; $1"
}
inside "apt-get update -qq && apt-get install -qq -y --no-install-recommends $packages > /dev/null"
for target in $targets; do
    inside "cd gpt2-twitch-chatter && time make $target" 2>&1 | tail -n 40
done

logs=$root/srv/my-logs
mkdir "$logs"
for log in "$project"/tests/golden/*; do
    case "$log" in
        *.csv | */bare.txt) ;; # what the logs become; a format that needs an option
        *) cp "$log" "$logs/" ;;
    esac
done
cp "$project/tests/golden/justlog.csv" "$logs/table.csv"
cp "$(find "$project/data/sample_logs" -type f | sort | head -n 1)" "$logs/"
# In the cache, the tiny model with random weights has the name of the model that the commands take.
cached=$root/srv/.cache/huggingface/hub/models--gpt2-medium
mkdir -p "$cached/refs" "$cached/snapshots"
cp -r "$project/models/tiny-gpt2" "$cached/snapshots/tiny"
printf tiny > "$cached/refs/main"
snapshot=${cached#"$root"}/snapshots/tiny
inside "gpt2-twitch-chatter/.venv/bin/python -c \"from transformers import AutoConfig, AutoModelForCausalLM
AutoModelForCausalLM.from_config(AutoConfig.from_pretrained('$snapshot')).save_pretrained('$snapshot')\""
commands=$(awk '/^## /{here = /Your own chat/} here && /^    /{found = 1; print; next} found && NF{exit}' "$project/README.md")
echo "$commands"
inside "cd gpt2-twitch-chatter && $commands" 2>&1 | tail -n 80
