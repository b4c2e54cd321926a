package imapsync

import (
	"strings"
	"testing"
	"time"
)

func TestProfilesMatch(t *testing.T) {
	builtin, err := NewProfiles("")
	if err != nil {
		t.Fatal(err)
	}
	changed, err := NewProfiles(`{gmail: {connections: 7}, ours: {hosts: ["mail.example.*"], noIdle: true}, taken: {hosts: [imap.gmx.net], keepalive: status}, default: {handshakes: 5}}`)
	if err != nil {
		t.Fatal(err)
	}
	gm := []string{"IMAP4rev1", "X-GM-EXT-1"}
	for _, c := range []struct {
		ps         *Profiles
		host, id   string
		caps       []string
		want, what string
	}{
		{builtin, "imap.gmail.com", "", nil, "gmail", "host"},
		{builtin, "IMAP.GMAIL.COM.", "", nil, "gmail", "host whatever its case"},
		{builtin, "relay.example.org", "", gm, "gmail", "capability"},
		{builtin, "relay.example.org", "Dovecot", gm, "dovecot", "ID before capability"},
		{builtin, "imap.mail.me.com", "Dovecot", nil, "icloud", "host before ID"},
		{builtin, "imap.ionos.co.uk", "", nil, "ionos", "pattern"},
		{builtin, "imap.ionos.de.evil.example", "", nil, "ionos", "pattern is text, not trust"},
		{builtin, "gmail.com.example.org", "", nil, "default", "no part of a name"},
		{builtin, "127.0.0.1", "Proton Mail Bridge", nil, "proton", "ID pattern"},
		{builtin, "127.0.0.1", "a/b [", nil, "default", "odd ID"},
		{changed, "mail.example.net", "", nil, "ours", "added"},
		{changed, "imap.gmx.net", "", nil, "taken", "the configuration's before what comes along"},
	} {
		if got := c.ps.Match(c.host, c.id, c.caps); got.Name != c.want {
			t.Errorf("%s: %s is %s, want %s", c.what, c.host, got.Name, c.want)
		}
	}
	if p := changed.Match("imap.gmail.com", "", nil); p.Connections != 7 || p.ConnectsPerSecond != 20 || !p.ModSeqLag || p.Handshakes != 5 {
		t.Errorf("one field of gmail and one of default changed: %+v", p)
	}
	if p := builtin.Match("imap.163.com", "", nil); !p.NoIdle || p.Keepalive != "status" || p.IdleRestart != 55*time.Second {
		t.Errorf("163: %+v", p)
	}
	if p := builtin.Match("imap.web.de", "", nil); !strings.Contains(p.hint("jo@web.de"), "before the @") || strings.Contains(p.hint("jo"), "before the @") {
		t.Errorf("web.de: %q", p.hint("jo@web.de"))
	}
	if p := builtin.Match("imap.mail.me.com", "", nil); p.Roles.Sent != "Sent Messages" || !p.NoQResync {
		t.Errorf("iCloud: %+v", p)
	}
}

func TestProfilesNameWhatIsWrong(t *testing.T) {
	for text, want := range map[string]string{
		`[a]`:                              "must be name: {field: value}",
		`x: {hosts: [a], connectoins: 3}`:  "connectoins",
		`x: {connections: 3}`:              "x.hosts: one of hosts",
		`gmail: {connections: 0}`:          "gmail.connections: must be 1 to 100",
		`gmail: {idleRestart: 1h}`:         "gmail.idleRestart: must be 10s to 29m",
		`gmail: {idleRestart: soon}`:       "gmail: ",
		`gmail: {keepalive: ping}`:         `gmail.keepalive: "ping": must be one of noop, status`,
		`gmail: {connectsPerSecond: .nan}`: "gmail.connectsPerSecond",
		`x: {hosts: ["["]}`:                `x.hosts: "["`,
		`x: {hosts: ["*"]}`:                `x.hosts: "*"`,
		`default: {sentCopy: never}`:       "default.sentCopy",
		`{gmail: {connections: 0}, b: {}}`: "b.hosts",
	} {
		if _, err := NewProfiles(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", text, err, want)
		}
	}
}
