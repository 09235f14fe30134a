#!/usr/bin/env bash
# limits.sh - one factor for every limit: how much slower than a real machine the guest is. Sourced.

# Emulation costs a factor of 3 to 25, by instruction; a busy host comes on top.
# shellcheck disable=SC2034 # for who sources this
limit_slowdown=${FARPOOL_TEST_SLOWDOWN:-10}
[[ $limit_slowdown =~ ^[1-9][0-9]{0,2}$ ]] || limit_slowdown=10

limit_scale() { # SECONDS, as they are for a factor of 10: prints them for the factor that is set
	printf '%d\n' $((($1 * limit_slowdown + 9) / 10))
}
