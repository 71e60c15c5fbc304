#!/usr/bin/env bash
# prove.sh WHEELS LOCK: what the Dockerfile does, without a container engine. As root on Debian, with debootstrap.
#
# Installs the server into a clean root of Debian by images/install.sh, then runs it there as the user 10001, without
# capabilities, with a root file system that is read-only but for /data, /tmp and the home, and generates an image.
set -euo pipefail
wheels=$(realpath "$1") lock=$(realpath "$2") here=$(dirname "$(realpath "$0")")
root=$(mktemp -d)
chmod 755 "$root"
trap 'rm -rf --one-file-system "$root"' EXIT
mirror=${DEBIAN_MIRROR:-http://deb.debian.org/debian}
suite=${DEBIAN_SUITE:-bookworm}

debootstrap --variant=minbase --include=python3,python3-venv,ca-certificates "$suite" "$root" "$mirror" >/dev/null
mkdir "$root/wheels"
cp "$wheels"/atelier_{client,engines,server}-*.whl "$root/wheels"
cp "$lock" "$root/lock.txt"
cp "$here/install.sh" "$root/install.sh"
# What the Python of this machine knows of its package index, the one inside is told for as long as it installs.
cp /etc/resolv.conf "$root/etc/resolv.conf"
[ ! -e /etc/pip.conf ] || cp /etc/pip.conf "$root/etc/pip.conf"
cp /etc/ssl/certs/ca-certificates.crt "$root/etc/ssl/certs/ca-certificates.crt"
chroot "$root" /usr/bin/env -i PATH=/usr/bin:/bin ${PIP_INDEX_URL:+PIP_INDEX_URL="$PIP_INDEX_URL"} \
  ${PIP_CERT:+PIP_CERT=/etc/ssl/certs/ca-certificates.crt} /install.sh /lock.txt /wheels
rm -rf "$root"/{wheels,lock.txt,install.sh,etc/pip.conf}
echo 'atelier:x:10001:10001::/home/atelier:/bin/false' >>"$root/etc/passwd"
echo "127.0.0.1 localhost" >"$root/etc/hosts"  # which every container engine writes
mkdir -p "$root"/{data,home/atelier,etc/atelier/config}
printf '%s\n' 'data_dir: /data/atelier' 'engines: {sketch: {type: sketch}}' >"$root/etc/atelier/config/atelier.yaml"

# shellcheck disable=SC2016 - expanded inside
unshare --mount --pid --fork --net bash -euo pipefail -c '
  root=$1
  ip link set lo up 2>/dev/null || true
  mount --bind "$root" "$root" && mount -o remount,bind,ro "$root"
  for folder in data tmp home/atelier; do mount -t tmpfs -o uid=10001,gid=10001,mode=0700 tmpfs "$root/$folder"; done
  mount -t proc proc "$root/proc"
  inside=(chroot --userspec=10001:10001 --groups= "$root" /usr/bin/env -i HOME=/home/atelier
    PATH=/opt/atelier/bin:/usr/bin:/bin PYTHONDONTWRITEBYTECODE=1
    setpriv --bounding-set=-all --inh-caps=-all --no-new-privs)
  "${inside[@]}" sh -c "id; ! touch /forbidden 2>/dev/null && echo read-only"
  "${inside[@]}" atelier serve --config /etc/atelier/config/atelier.yaml &
  server=$!
  for attempt in {1..300}; do "${inside[@]}" atelier health >/dev/null 2>&1 && break; kill -0 $server; sleep 0.2; done
  "${inside[@]}" atelier generate "a lighthouse" --size 64x64 -o /tmp/a.png
  "${inside[@]}" python3 -c "print(open(\"/tmp/a.png\", \"rb\").read(8))"
  kill -TERM $server
  wait $server
' bash "$root"
echo "the image's steps work: as the user 10001, without capabilities, on a read-only root"
