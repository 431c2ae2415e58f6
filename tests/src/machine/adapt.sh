#!/bin/sh
# adapt.sh DISK FOLDER NAME ADDRESS IDENTITY LIKE: makes a copied disk that of one machine. It gets
# the packages that the host whose file tree is LIKE can install, lets IDENTITY in, and FOLDER gets
# its public host key.
set -eu
disk=$1 folder=$2 name=$3 address=$4 identity=$5 like=$6
mkdir -p "$folder/tree"
root=$folder/tree
mount -o loop,offset=1048576 "$disk" "$root"
echo "$name" >"$root/etc/hostname"
printf '127.0.0.1 localhost\n127.0.1.1 %s\n' "$name" >"$root/etc/hosts"
cat >"$root/etc/systemd/network/10-lab.network" <<NETWORK
[Match]
Type=ether
[Network]
Address=$address/24
NETWORK
cp "$like/etc/apt/sources.list" "$root/etc/apt/"
cp -r "$like/srv/packages/." "$root/srv/packages/"
cp -r "$like/var/lib/apt/lists" "$root/var/lib/apt/"
ssh-keygen -y -f "$identity" >"$root/root/.ssh/authorized_keys"
# A machine whose disk is made anew keeps its key, as its inventory pins it.
[ -e "$folder/host_key" ] || ssh-keygen -q -t ed25519 -N '' -C '' -f "$folder/host_key"
cp "$folder/host_key" "$root/etc/ssh/ssh_host_ed25519_key"
cp "$folder/host_key.pub" "$root/etc/ssh/ssh_host_ed25519_key.pub"
umount "$root"
