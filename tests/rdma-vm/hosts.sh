#!/usr/bin/env bash
# hosts.sh - several RDMA hosts in one machine, and waiting with a limit. Sourced by suites.
# With BED_DEVICE, all hosts are that real device, which talks to itself, and nothing is set up; else
# they are soft-RoCE, in the guest. Network namespaces would be the obvious hosts, but soft-RoCE lives in the first one alone. So each
# host is a device pair into one bridge, with an address and an rxe device of its own, and routing
# rules that send what goes from one to another over the wire, not over lo: netem, counters and
# `ip link set h1 down` act on real packets.

# shellcheck disable=SC2034 # for who sources this
readonly bed_address=10.78.0. bed_address6=fd00:78::
# A guest's /tmp is gone with it, a real machine's is not ours.
bed_tmp=/tmp
[[ -z ${BED_DEVICE:-} ]] || bed_tmp=$BED_OUT
readonly bed_tmp
readonly bed_sysfs=/sys/class/infiniband/${BED_DEVICE:-}

bed_fail() {
	printf 'failed: %s\n' "$*"
	exit 1
}

# The guest is slow: every wait in it is as much longer as the factor says.
bed_seconds() { # SECONDS ON A REAL MACHINE
	printf '%d\n' $(($1 * FARPOOL_TEST_SLOWDOWN))
}

bed_wait() { # SECONDS COMMAND...: until it succeeds
	local seconds until
	seconds=$(bed_seconds "$1")
	until=$((SECONDS + seconds))
	shift
	until "$@"; do
		((SECONDS < until)) || bed_fail "waited $seconds s in vain: $*"
		sleep 0.05
	done
}

bed_listens() { # TCP-PORT
	[[ -n $(ss -H -l -t -n "sport = :$1") ]]
}

bed_listens_rdma() { # PORT of rdma_cm
	rdma resource show cm_id | grep -q "state LISTEN.*:$1 "
}

# ip -batch: one process instead of dozens.
bed_wires() { # N MTU
	local i

	echo "link add bed0 mtu $2 type bridge forward_delay 0"
	echo "link set bed0 up"
	for ((i = 1; i <= $1; i++)); do
		echo "link add h$i address 02:00:00:00:00:0$i mtu $2 type veth peer name p$i mtu $2"
		echo "link set p$i master bed0 up"
		echo "link set h$i up"
	done
}

# The local table is asked late, and for what arrives first: so addresses of ours are reached by wire.
bed_routes() { # N ADDRESS PREFIX-SIZE [nodad]
	local i j nodad=${4:-}

	echo "rule add pref 1000 lookup local"
	for ((i = 1; i <= $1; i++)); do
		echo "addr add $2$i/$3 dev h$i $nodad"
		echo "rule add pref 10 iif h$i lookup local"
		# Who has not chosen its own address talks from the first host that is not the target.
		echo "rule add pref 30 to $2$i lookup $((i == 1 ? 102 : 101))"
		for ((j = 1; j <= $1; j++)); do
			((i != j)) || continue
			echo "rule add pref 20 from $2$i to $2$j lookup $((100 + i))"
			echo "route replace $2$j dev h$i src $2$i table $((100 + i))"
			echo "neigh replace $2$j lladdr 02:00:00:00:00:0$j dev h$i nud permanent"
		done
	done
	echo "rule del pref 0"
}

bed_soft() { # whether hosts are made here, with wires that can be counted and spoilt
	[[ -z ${BED_DEVICE:-} ]]
}

# The network devices that the real one belongs to, by its GIDs or, with IP over InfiniBand, by the bus.
bed_device_cards() {
	{
		cat "$bed_sysfs"/ports/1/gid_attrs/ndevs/* 2>/dev/null # those of empty GIDs cannot be read
		find "$bed_sysfs/device/net/" -mindepth 1 -maxdepth 1 -printf '%f\n' 2>/dev/null
	} | sort -u
}

bed_device_address() {
	local card

	for card in $(bed_device_cards); do
		ip -4 -o addr show dev "$card" scope global 2>/dev/null | sed -n 's|.* inet \([0-9.]*\)/.*|\1|p'
	done | head -n 1
}

bed_device_check() {
	local state

	[[ -n $BED_DEVICE && -d $bed_sysfs ]] || bed_fail "there is no RDMA device '$BED_DEVICE'; there are:" \
		"$(cd /sys/class/infiniband 2>/dev/null && echo *); next: farpool doctor"
	state=$(<"$bed_sysfs/ports/1/state")
	[[ $state == *ACTIVE* ]] || bed_fail "port 1 of $BED_DEVICE is $state; next: farpool doctor"
	bed_real=$(bed_device_address)
	[[ -n $bed_real ]] || bed_fail "the network device of $BED_DEVICE has no IPv4 address;" \
		"next: ip addr add 10.0.0.1/24 dev $(bed_device_cards | head -n 1)"
	echo "note: $BED_DEVICE talks to itself at $bed_real: no wire, no other host"
}

bed_host() { # HOST: its address
	if bed_soft; then echo "$bed_address$1"; else echo "$bed_real"; fi
}

bed_rdma() { # HOST: its RDMA device
	if bed_soft; then echo "rxe$1"; else echo "$BED_DEVICE"; fi
}

# bed_hosts N [MTU]: hosts 1 to N, at most 9; soft ones: devices h1..., rxe1..., addresses 10.78.0.1..., fd00:78::1...
bed_hosts() {
	if bed_soft; then bed_hosts_make "$@"; else bed_device_check; fi
}

bed_hosts_make() { # N [MTU]
	local count=$1 mtu=${2:-4200} i conf=/proc/sys/net

	modprobe -a rdma_rxe rdma_ucm ib_uverbs veth bridge || bed_fail "no modules for soft-RoCE"
	for i in all default; do
		echo 0 >$conf/ipv4/conf/$i/rp_filter
		echo 1 >$conf/ipv4/conf/$i/accept_local
		# Else the first connection waits while the address is being proved unique.
		echo 0 >$conf/ipv6/conf/$i/accept_dad
	done
	echo 1 >$conf/ipv4/conf/all/arp_ignore
	echo 2 >$conf/ipv4/conf/all/arp_announce
	bed_wires "$count" "$mtu" | ip -batch - || bed_fail "no bridge with $count hosts"
	bed_routes "$count" "$bed_address" 24 | ip -batch - || bed_fail "no IPv4 routes"
	bed_routes "$count" "$bed_address6" 64 nodad | ip -6 -batch - || bed_fail "no IPv6 routes"
	for ((i = 1; i <= count; i++)); do
		rdma link add "rxe$i" type rxe netdev "h$i" || bed_fail "no rxe$i"
	done
}

# Programs of tests that skip for lack of RDMA fail here; on a real device, which can do less, it is noted.
bed_skips() { # FILE PATTERN-OF-WHAT-MAY-BE-SKIPPED: whether others were
	local skipped name

	skipped=$(sed -n 's/^\[  SKIPPED \] //p' "$1" | grep -vE "test\(s\)|$2" | sort -u)
	[[ -n $skipped ]] || return 1
	bed_soft && return 0
	while IFS= read -r name; do
		echo "note: skipped: $name"
	done <<<"$skipped"
	return 1
}

bed_sent() { # HOST: bytes that it put on its wire; a real device that talks to itself has none
	! bed_soft && echo 0 && return
	cat "/sys/class/net/h$1/statistics/tx_bytes"
}
