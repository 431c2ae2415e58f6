#!/bin/sh
# image.sh FOLDER: makes in FOLDER the disk `disk` and the kernel `kernel` of a whole machine with
# Debian 12. The kernel finds the disk, NVMe, by the id of its partition, so that it needs no
# initial file system and the order of disks does not matter.
set -eu
folder=$1
tree=$folder/tree
mmdebstrap --mode=root --variant=minbase --format=directory --quiet \
    --include=apt,ca-certificates,dbus,e2fsprogs,fdisk,iproute2,mount,openssh-server,procps \
    --include=sudo,systemd,systemd-sysv,util-linux \
    --include=linux-image-cloud-amd64,qemu-guest-agent,udev \
    --customize-hook='chroot "$1" systemctl enable --quiet systemd-networkd.service ssh.service' \
    bookworm "$tree"
mv "$tree"/boot/vmlinuz-* "$folder/kernel"
rm -rf "$tree"/boot/* "$tree"/etc/ssh/ssh_host_* "$tree"/etc/resolv.conf \
    "$tree"/etc/apt/sources.list "$tree"/etc/apt/sources.list.d/* "$tree"/var/lib/apt/lists/*
: >"$tree/etc/machine-id"
echo 'PARTUUID=4d414348-01 / ext4 defaults,commit=600 0 1' >"$tree/etc/fstab"
# What nobody asks to be made last stays in memory, so that a power cut shows it.
echo 'vm.dirty_writeback_centisecs = 0' >"$tree/etc/sysctl.d/50-machine.conf"
mkdir -p "$tree/var/log/journal" "$tree/srv/packages" "$tree/root/.ssh"
chmod 0700 "$tree/root/.ssh"
cat >"$tree/etc/ssh/sshd_config.d/machine.conf" <<'SSHD'
HostKey /etc/ssh/ssh_host_ed25519_key
PermitRootLogin prohibit-password
PasswordAuthentication no
UseDNS no
SSHD
# Their runs at random times would hold the package lock under a test's feet.
ln -s /dev/null "$tree/etc/systemd/system/apt-daily.timer"
ln -s /dev/null "$tree/etc/systemd/system/apt-daily-upgrade.timer"
truncate --size=2G "$folder/disk"
printf 'label: dos\nlabel-id: 0x4d414348\nstart=2048, type=83\n' | sfdisk --quiet "$folder/disk"
mkfs.ext4 -q -F -d "$tree" -E offset=1048576 "$folder/disk" $((2 * 1024 * 1024 - 1024))k
rm -rf "$tree"
