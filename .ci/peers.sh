#!/usr/bin/env bash
# peers.sh: unpacks Cyrus and Courier for the tests, with the libraries they lack here.
# Debian lets only one IMAP server be installed, and that is Dovecot; so nothing is
# installed: the packages are fetched and laid under a directory of their own, from which
# imaptest runs them. Needs no root, only package lists (apt-get update, by root).
set -euo pipefail
# imaptest/peer.go looks in the same place. Root's is open, since servers run as nobody.
if [ "$(id -u)" -eq 0 ]; then base=/var/cache/postrider-peers; else base=${XDG_CACHE_HOME:-$HOME/.cache}/postrider-peers; fi
dir=$base/1 # another number, here and there, where what is unpacked changes
[ -d "$dir" ] && exit 0
roots=(cyrus-imapd courier-imap gamin) # gamin tells Courier of changes

give_up() {
	echo "no Cyrus and Courier for the tests: $1" >&2
	[ "${POSTRIDER_TEST_REQUIRE:-}" != all ]
	exit
}
command -v apt-get >/dev/null && command -v dpkg >/dev/null || give_up "needs a Debian"
mkdir -p "$base"
exec 9>"$base/lock"
flock 9 # of two at once, one waits
[ -d "$dir" ] && exit 0
known() { apt-cache show "${roots[@]}" >/dev/null 2>&1; }
if ! known && [ "$(id -u)" -eq 0 ]; then apt-get update >/dev/null || true; fi
known || give_up "their packages are not in apt's lists (as root: apt-get update)"

# The servers' own packages, and the libraries they need, level by level.
want=("${roots[@]}") all=()
while [ ${#want[@]} -gt 0 ]; do
	all+=("${want[@]}")
	mapfile -t want < <(apt-cache depends --no-recommends --no-suggests --no-conflicts --no-breaks --no-replaces --no-enhances "${want[@]}" |
		sed -n 's/^ *|\?Depends: \([a-z0-9].*\)$/\1/p' | grep -E '^(lib|cyrus-common|courier-(base|auth))' |
		grep -v '^libclamav' | sort -u | grep -vxF -f <(printf '%s\n' "${all[@]}")) # a virus scanner that nobody starts
done
missing=()
for p in "${all[@]}"; do
	dpkg-query -W -f '${Status}' "$p" 2>/dev/null | grep -q ' installed$' || missing+=("$p")
done

echo "unpacking ${missing[*]} into $dir" >&2
work=$(mktemp -d "$base/new.XXXXXX")
trap 'rm -rf "$work"' EXIT
mkdir "$work/root"
fetch() { (cd "$work" && apt-get download "${missing[@]}" >/dev/null 2>&1); }
fetch || { [ "$(id -u)" -eq 0 ] && apt-get update >/dev/null && fetch; } || give_up "apt-get download failed"
for deb in "$work"/*.deb; do dpkg -x "$deb" "$work/root"; done
chmod -R go+rX "$work/root"
mv "$work/root" "$dir"
