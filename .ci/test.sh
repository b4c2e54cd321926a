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
awk -f .ci/report.awk "$log" || status=1
exit $status
