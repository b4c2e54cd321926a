#!/usr/bin/env bash
# Runs all tests and ends with every skip and its reason: go test shows nothing of what
# a passing package prints.
set -uo pipefail
cd "$(dirname "$0")/.."
export PATH="$PATH:/usr/sbin:/usr/local/sbin" # Dovecot lives there
log=$(mktemp)
trap 'rm -f "$log"' EXIT
go test -json -race -shuffle=on -count=1 -timeout 14m "${@:-./...}" >"$log"
status=$?
# 10,000 deeds of drawn histories a tier: without the race detector, which had its share above.
[ $# -gt 0 ] || POSTRIDER_MODEL=10000 go test -json -count=1 -timeout 14m -run TestOracle ./imapsync >>"$log" || status=1
awk -f .ci/report.awk "$log" || status=1
exit $status
