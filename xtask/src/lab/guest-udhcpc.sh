#!/bin/busybox sh
# Called by udhcpc with what the lease says.
[ "$1" = bound ] || exit 0
ip addr flush dev "$interface"
ip addr add "$ip/${mask:-32}" dev "$interface"
# The gateway of a routed network need not be in the interface's own subnet.
ip route add "${router%% *}/32" dev "$interface" 2>/dev/null
ip route add default via "${router%% *}" dev "$interface"
echo "$ip/${mask:-32}" > /run/address
echo "${router%% *}" > /run/gateway
