# Sourced by the first process of the emulated host: the daemon, and one stock Linux guest under it.
daemon_up() {
    ashlard serve --state $STATE --plugins /usr/share/ashlar/plugins >$DAEMON_LOG 2>&1 &
    daemon=$!
    within 60 answers_or_died && kill -0 $daemon && ashlar host
}
answers_or_died() {
    ashlar host || ! kill -0 $daemon
}
import() {
    ashlar --quiet images import --name linux --kernel /lab/vmlinuz --initrd /lab/initramfs --cmdline "console=ttyS0 quiet panic=-1"
}
start_guest() {
    ashlar --quiet run linux --vcpus 1 --memory 256M --data-disk 1G >/run/instance
}
# Follows the guest's console until it says that it is done.
guest() {
    instance=$(cat /run/instance)
    timeout 180 ashlar console --follow "$instance" >/run/console 2>/run/console-error &
    follower=$!
    within 180 grep -q -e '^GUEST done' /run/console
    ended=$?
    kill $follower 2>/dev/null
    grep -e '^GUEST' /run/console | sed 's/^GUEST /LAB guest /'
    [ $ended = 0 ] || tail -n 5 /run/console /run/console-error
    return $ended
}
stopped() {
    within 60 sh -c 'ashlar show "$(cat /run/instance)" | grep -q -i -w stopped'
}

try daemon daemon_up
try import import
try run start_guest
guest >/run/guest
ended=$?
cat /run/guest
[ $ended = 0 ] || { sed 's/^/ashlard: /' $DAEMON_LOG | tail -n 60; finish; }
try stopped stopped
