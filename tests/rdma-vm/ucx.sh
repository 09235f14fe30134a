#!/usr/bin/env bash
# ucx.sh - programs over UCX between two soft-RoCE hosts, and what may be skipped there. Sourced by suites.

# The first is for hosts without RDMA, the second would kill the process that it is in, the third is
# a promise of TCP alone.
ucx_not_here='without_an_rdma_device_it_is_an_error|a_dead_process_ends_every_op'
ucx_not_here+='|small_reads_do_not_wait_for_big_ones_before_them'
readonly ucx_not_here

ucx_try() { # FOLDER-OF-TESTS PROGRAM
	local rc=0

	# shellcheck disable=SC2154 # hosts.sh
	"$1/$2" >"$bed_tmp/output" 2>&1 || rc=$?
	# soft-RoCE of kernels after 6.1 says twice that a queue pair's last buffer is consumed; UCX 1.13
	# ends the process at the second time (openucx/ucx issue 10432).
	if ((rc == 134)) && bed_soft && [[ $(uname -r) != 6.1.* ]] &&
		grep -q 'ib_device.c.*wait_ctx->cb_id' "$bed_tmp/output"; then
		echo "skipped: UCX ends the process on this kernel's soft-RoCE (openucx/ucx issue 10432)"
		exit 77
	fi
	((rc == 0)) || { cat "$bed_tmp/output" && bed_fail "$2 ended with $rc"; }
	! bed_skips "$bed_tmp/output" "$ucx_not_here" || { cat "$bed_tmp/output" && bed_fail "$2 skipped what has to run here"; }
	grep '^region ' "$bed_tmp/output" | sed "s/^/note: $(basename "$2"), a /"
	echo "$2: $SECONDS s"
}
