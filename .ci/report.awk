# Reads go test -json. Prints the output of tests and packages that failed, a line for
# each package, and at the end every skipped test with its reason and every failed one with
# the line that says why. Of a test that did not end, because the time was over or the
# process died, what it died with.
function field(name,   v) {
	if (!match($0, "\"" name "\":\"([^\"\\\\]|\\\\.)*\"")) return ""
	v = substr($0, RSTART + length(name) + 4, RLENGTH - length(name) - 5)
	return v
}
function plain(s) {
	gsub(/\\n/, "\n", s); gsub(/\\t/, "\t", s); gsub(/\\"/, "\"", s)
	gsub(/\\u003c/, "<", s); gsub(/\\u003e/, ">", s); gsub(/\\u0026/, "\\&", s); gsub(/\\\\/, "\\", s)
	return s
}
# because is the line of a test's output that says why it failed.
function because(s,   lines, i, n) {
	n = split(s, lines, "\n")
	for (i = 1; i <= n; i++)
		if (lines[i] ~ /^(panic|fatal error|SIG|signal: )|^ +[a-z_0-9]+\.go:[0-9]+: |WARNING: DATA RACE|test timed out/) return substr(lines[i], 1, 300)
	return ""
}
!/^\{/ { print; next } # what is not JSON comes from the build
{
	action = field("Action"); pkg = field("Package"); test = field("Test"); key = pkg " " test
	if (action == "build-output") printf "%s", plain(field("Output"))
	else if (action == "output") text[key] = text[key] plain(field("Output"))
	else if (action == "pass" && test != "") { passed++; ran[key] = 1 }
	else if (action == "skip" && test != "") { skipped[++skips] = key; why[key] = text[key] }
	else if (action == "fail") {
		failed++
		if (test == "")
			for (other in text)
				if (index(other, pkg " ") == 1 && other != key && match(text[other], /(^|\n)(panic|fatal error|SIG[A-Z]+|signal: )/)) {
					printf "not ended: %s\n%s\n", other, substr(text[other], RSTART, 20000)
					failure[++failures] = "not ended: " other ": " because(text[other])
				}
		printf "%s", text[key]
		if ((reason = because(text[key])) != "") failure[++failures] = "failed: " key ": " reason
		if (test != "") delete text[key]
	}
	if (test == "" && (action == "pass" || action == "fail" || action == "skip"))
		printf "%-4s %s%s\n", action == "pass" ? "ok" : action, pkg, match($0, /"Elapsed":[0-9.]+/) ? " " substr($0, RSTART + 10, RLENGTH - 10) " s" : ""
	if (action == "pass") delete text[key]
}
END {
	for (i = 1; i <= skips; i++)
		if (!(skipped[i] in ran)) still[++left] = skipped[i] # what a later run did not do
	printf "\n%d passed, %d failed, %d skipped\n", passed, failed, left
	for (i = 1; i <= left; i++) {
		reason = why[still[i]]
		gsub(/=== [A-Z]+ +[^\n]*\n/, "", reason); gsub(/--- SKIP:[^\n]*\n/, "", reason); gsub(/\n/, " ", reason); gsub(/  +/, " ", reason)
		printf "skipped: %s:%s\n", still[i], reason
	}
	for (i = 1; i <= failures; i++) print failure[i]
}
