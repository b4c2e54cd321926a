#!/usr/bin/env bash
# need.sh PROGRAM=PACKAGE…: installs what is missing through the system's package manager
# where we may, and says what to install where we may not.
set -euo pipefail
missing=()
for pair in "$@"; do
	PATH="$PATH:/usr/sbin:/usr/local/sbin" command -v "${pair%%=*}" >/dev/null || missing+=("${pair#*=}")
done
[ ${#missing[@]} -eq 0 ] && exit 0
if [ "$(id -u)" -eq 0 ] && command -v apt-get >/dev/null; then
	echo "installing ${missing[*]}" >&2
	export DEBIAN_FRONTEND=noninteractive
	# Their services are not wanted: the tests and serve start servers of their own.
	policy=/usr/sbin/policy-rc.d
	if [ ! -e $policy ]; then
		printf '#!/bin/sh\nexit 101\n' >$policy
		chmod +x $policy
		trap 'rm -f $policy' EXIT
	fi
	apt-get install -y --no-install-recommends "${missing[@]}" >/dev/null ||
		{ apt-get update >/dev/null && apt-get install -y --no-install-recommends "${missing[@]}" >/dev/null; }
else
	echo "not installed: ${missing[*]} (as root: apt-get install ${missing[*]})" >&2
	[ "${POSTRIDER_TEST_REQUIRE:-}" != all ]
fi
