# shellcheck shell=bash
# parts.sh - parts that run one after the other: their tests counted, their minutes in a table. Sourced.

parts_out=$(mktemp)
readonly parts_out
trap 'rm -f -- "$parts_out"' EXIT

parts_names=() parts_minutes=() parts_results=() parts_which=()
parts_passed=0
parts_failed=0

# part NAME COMMAND...: a part counts its tests, or, where it has none, itself.
part() {
	local name=$1 start=$SECONDS rc=0 line p=0 f=0 s=0
	shift

	printf '\n==== %s\n' "$name"
	"$@" </dev/null 2>&1 | tee "$parts_out"
	rc=${PIPESTATUS[0]}
	line=$(grep -E '^[0-9]+ passed, [0-9]+ failed, [0-9]+ skipped$' "$parts_out" | tail -n 1)
	if [[ -n $line ]]; then
		read -r p f s < <(tr -c '0-9\n' ' ' <<<"$line")
	elif ((rc == 0)); then
		p=1
	fi
	# A part that failed without a failed test did not get as far as its tests.
	((rc == 0 || f > 0)) || f=1
	# Which ones: lines of ctest and of ./dev rdma, for who sees the end of a long log alone.
	((f == 0)) || while IFS= read -r line; do
		parts_which+=("$name: $line")
	done < <(sed -nE 's/^ *[0-9]+\/[0-9]+ +Test +#[0-9]+: ([^ ]+) \.*\*\*\*(Failed|Timeout|Exception|Not Run).*/\1 \2/p
		s/^([a-z][a-z-]*) +failed +([0-9.]+)$/\1 failed after \2 s/p' "$parts_out")
	parts_passed=$((parts_passed + p))
	parts_failed=$((parts_failed + f))
	parts_names+=("$name")
	parts_minutes+=("$(awk -v s=$((SECONDS - start)) 'BEGIN { printf "%.1f", s / 60 }')")
	parts_results+=("$([[ $f == 0 ]] && echo "ok, $p passed, $s skipped" || echo "FAILED ($f)")")
}

# The table, and how many failed as the status.
parts_report() {
	local i

	printf '\n%-8s %8s  %s\n' part minutes result
	for i in "${!parts_names[@]}"; do
		printf '%-8s %8s  %s\n' "${parts_names[i]}" "${parts_minutes[i]}" "${parts_results[i]}"
	done
	printf '%-8s %8s\n' all "$(awk -v s=$SECONDS 'BEGIN { printf "%.1f", s / 60 }')"
	((${#parts_which[@]} == 0)) || printf '%s\n' '' "${parts_which[@]}"
	printf '\n%d passed, %d failed\n' "$parts_passed" "$parts_failed"
	((parts_failed == 0))
}
