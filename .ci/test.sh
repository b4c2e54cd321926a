#!/usr/bin/env bash
# Runs all tests and ends with every skip and its reason: go test shows nothing of what
# a passing package prints.
set -uo pipefail
cd "$(dirname "$0")/.."
export PATH="$PATH:/usr/sbin:/usr/local/sbin" # Dovecot lives there
log=$(mktemp)
trap 'rm -f "$log"' EXIT
go test -json -race -shuffle=on -count=1 -timeout 30m "${@:-./...}" >"$log"
status=$?
# Drawn histories, 10,000 things happening to every tier. Not with -race, which is five times
# as slow: what they look for is what the engine makes of them.
[ $# -gt 0 ] || POSTRIDER_MODEL=11500 go test -json -count=1 -timeout 25m -run TestOracle ./imapsync >>"$log" || status=$?
awk -f .ci/report.awk "$log" || status=1
exit $status
