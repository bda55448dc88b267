#!/bin/busybox sh
# The first process of the emulated host: prepares it as an appliance would be, runs the daemon on it and one stock Linux
# guest under that, and reports on the console in marked lines: `LAB ok NAME …`, `LAB fail NAME …`, at the end `LAB done`.
export PATH=/usr/bin:/usr/sbin:/bin:/sbin HOME=/
/bin/busybox --install -s /bin
mount -t devtmpfs dev /dev
mkdir -p /dev/pts /dev/shm
mount -t devpts devpts /dev/pts
mount -t tmpfs shm /dev/shm
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t tmpfs run /run
mount -t tmpfs tmp /tmp
mount -t cgroup2 cgroup /sys/fs/cgroup

STATE=/var/lib/ashlar
DAEMON_LOG=/run/ashlard.log

say() { echo "LAB $*"; }
finish() {
    say "done"
    sync
    poweroff -f
    exit
}
# try NAME COMMAND…: one check; without it the rest makes no sense.
try() {
    name=$1
    shift
    if "$@" >/tmp/message 2>&1; then
        say "ok $name $(head -n 1 /tmp/message)"
        return
    fi
    say "fail $name: $(tail -n 3 /tmp/message | tr '\n' ' ')"
    [ -f $DAEMON_LOG ] && tail -n 60 $DAEMON_LOG | sed 's/^/ashlard: /'
    finish
}
# within SECONDS COMMAND…: until the command succeeds.
within() {
    deadline=$(($(cut -d. -f1 /proc/uptime) + $1))
    shift
    until "$@"; do
        [ "$(cut -d. -f1 /proc/uptime)" -lt $deadline ] || return 1
        sleep 1
    done
}

modules() {
    for module in $(cat /etc/modules); do
        insmod "$module" || return 1
    done
}
nftables() {
    nft add table inet lab &&
        nft 'add chain inet lab c { type filter hook forward priority 0; policy accept; }' &&
        nft add rule inet lab c ct state established accept &&
        nft delete table inet lab
}
tap() {
    tunctl -t lab0 && tunctl -d lab0
}
pool() {
    mkdir -p $STATE && mount -t xfs /dev/vda $STATE
}

# The firmware leaves its last line open.
echo
say "ok boot $(uname -r)"
try modules modules
try kvm test -c /dev/kvm
try nft nftables
try tap tap
try pool pool
try io_uring grep -q -w __x64_sys_io_uring_setup /proc/kallsyms
ip link set lo up

. /etc/lab
finish
