# Sourced by the first process of the emulated host: the daemon, and one stock Linux guest under it.
answers_or_died() {
    ashlar host || ! kill -0 $daemon
}
daemon_up() {
    ashlard serve --state $STATE --plugins /usr/share/ashlar/plugins >$DAEMON_LOG 2>&1 &
    daemon=$!
    within 60 answers_or_died >/dev/null 2>&1 && kill -0 $daemon && ashlar --quiet host
}
import() {
    ashlar --quiet images import --name linux --kernel /lab/vmlinuz --initrd /lab/initramfs --cmdline "console=ttyS0 quiet panic=-1"
}
start_guest() {
    ashlar --quiet run linux --vcpus 1 --memory 256M --disk 1G --wait --timeout 120 >/run/instance && cat /run/instance
}
# Follows the guest's console until it says that it is done, and passes on what it reports.
guest() {
    ashlar console "$(cat /run/instance)" --wait-for 'GUEST done' --timeout 180 >/run/console
    ended=$?
    grep -e '^GUEST' /run/console | sed 's/^GUEST /LAB guest /' >/dev/console
    [ $ended = 0 ] && return
    echo "its console ends with: $(tail -n 3 /run/console)"
    return 1
}
stopped() {
    within 60 sh -c 'ashlar --quiet ps --state Stopped | grep -q -F "$(cat /run/instance)"'
}

try daemon daemon_up
try import import
try run start_guest
try guest guest
try stopped stopped
