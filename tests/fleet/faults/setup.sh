# What each host gets before the first run: a small disk of its own for all that a run writes, so
# that it can be filled, and the program that phases are held open with.
set -eu
mkfs.ext4 -q -m 0 DEVICE
mkdir -p /srv/system /run/faults
cat >/etc/systemd/system/srv-system.mount <<'UNIT'
[Mount]
What=DEVICE
Where=/srv/system
Type=ext4
[Install]
WantedBy=local-fs.target
UNIT
systemctl daemon-reload
systemctl enable --now -q srv-system.mount
for place in FOLDERS; do
    unit=$(systemd-escape --path --suffix=mount "$place")
    mkdir -p "/srv/system$place" "$place"
    cat >"/etc/systemd/system/$unit" <<UNIT
[Unit]
RequiresMountsFor=/srv/system
[Mount]
What=/srv/system$place
Where=$place
Type=none
Options=bind
[Install]
WantedBy=local-fs.target
UNIT
done
systemctl daemon-reload
for place in FOLDERS; do
    systemctl enable --now -q "$(systemd-escape --path --suffix=mount "$place")"
done
chmod 0700 /var/lib/provision
