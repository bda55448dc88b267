#!/bin/busybox sh
# The first process of the Linux guest: tries its devices and says what it saw, one marked line each, then powers off.
export PATH=/bin
/bin/busybox --install -s /bin
mount -t devtmpfs dev /dev
mount -t proc proc /proc
mount -t sysfs sys /sys
for module in $(cat /etc/modules); do
    insmod "$module" || echo "GUEST fail module $module"
done

ok() { echo "GUEST ok $*"; }
fail() { echo "GUEST fail $*"; }

# Whatever started the kernel may have left its last line open.
echo
echo "GUEST kernel $(uname -r)"

# The last disk is the data disk: the system disk, where there is one, comes first.
disk=
for device in /dev/vd?; do
    [ -b "$device" ] && disk=$device
done
if [ -n "$disk" ]; then
    ok "disk $(basename "$disk") $(blockdev --getsize64 "$disk") bytes"
    # Written past the cache, read back past the cache, compared.
    head -c 4194304 /dev/urandom > /pattern
    if dd if=/pattern of="$disk" bs=65536 oflag=direct conv=fsync 2>/message &&
        echo 3 > /proc/sys/vm/drop_caches &&
        dd if="$disk" of=/back bs=65536 count=64 iflag=direct 2>/message &&
        cmp /pattern /back 2>/message; then
        ok "disk-verified 4 MiB"
    else
        fail "disk-verified $(tail -n 1 /message)"
    fi
else
    fail "disk no /dev/vd? appeared"
fi

if [ -d /sys/class/net/eth0 ]; then
    ok "interface eth0 $(cat /sys/class/net/eth0/address)"
    ip link set lo up
    ip link set eth0 up
    if udhcpc -f -q -n -t 10 -T 2 -i eth0 -s /etc/udhcpc >/message 2>&1; then
        ok "address $(cat /run/address)"
        gateway=$(cat /run/gateway)
        if ping -c 3 -W 5 "$gateway" >/message 2>&1; then
            ok "gateway $gateway answers"
        else
            fail "gateway $gateway $(tail -n 2 /message | head -n 1)"
        fi
    else
        fail "address $(tail -n 1 /message)"
    fi
else
    fail "interface eth0 did not appear"
fi

echo "GUEST done"
poweroff -f
