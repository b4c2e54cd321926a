package smtpsend

import (
	"strings"
	"testing"
)

func TestMatch(t *testing.T) {
	for _, tt := range []struct{ host, address, want string }{
		{"smtp.gmail.com", "ada@gmail.com", "gmail"},
		{"SMTP.Gmail.com.", "ada@GoogleMail.com", "gmail"},
		{"smtp.gmail.com", "ada@example.com", "workspace"},
		{"smtp.office365.com", "ada@outlook.com", "office365"},
		{"smtp-mail.outlook.com", "ada@outlook.com", "outlook"},
		{"smtp.mail.me.com", "", "icloud"},
		{"smtp.aol.com", "ada@aol.com", "yahoo"},
		{"smtp.yandex.com.tr", "ada@yandex.com", "yahoo"},
		{"smtp.zoho.eu", "a@b", "zoho"},
		{"mail.example.com", "ada@gmail.com", "other"}, // the address alone decides nothing
		{"", "", "other"},
		{"a/b", "", "other"},
	} {
		if p := builtin().Match(tt.host, tt.address); p.Name != tt.want {
			t.Errorf("%s, %s: %s, want %s", tt.host, tt.address, p.Name, tt.want)
		}
	}
}

func TestProfiles_of_the_configuration_come_first(t *testing.T) {
	ps, err := NewProfiles(`[{name: ours, hosts: ["*.example.com", smtp.gmail.com], connections: 9, limits: {perDay: 7}}]`)
	if err != nil {
		t.Fatal(err)
	}
	p := ps.Match("smtp.gmail.com", "ada@gmail.com")
	if p.Name != "ours" || p.Connections != 9 || p.Recipients != 100 || p.SentCopy != CopyAppend || p.Limits.PerDay != 7 {
		t.Errorf("%+v", p)
	}
	if hit, _ := p.limit(550, [3]int{5, 4, 5}, ""); !hit {
		t.Error("limit replies of everybody are missing")
	}
}

func TestProfiles_problems(t *testing.T) {
	for own, want := range map[string]string{
		`[{name: a, host: x}]`:                                 "[0].host: field host not found",
		`[{name: a, hosts: [x]}, {name: b, hosts: 7}]`:         "[1].hosts: ",
		`[{name: a, hosts: [x], connections: many, size: -1}]`: "[0].connections: ",
		`[{name: a, hosts: [x], limits: {perYear: 1}}]`:        "[0].limits: field perYear not found",
		`[a]`:            "[0]: must hold the fields",
		`[{hosts: [x]}]`: "[0].name: must be given",
		`[{name: a, hosts: [x], sentCopy: maybe}]`:                          "[0].sentCopy: \"maybe\"",
		`[{name: a, hosts: [x]}, {name: a, hosts: [x], connections: 1000}]`: "[1].connections: must be 1 to 100",
		`[{name: a, hosts: ["[x"]}]`:                                        "[0].hosts: ",
		`[{name: a, hosts: [x], size: -1}]`:                                 "[0].size: ",
		`[{name: a, hosts: [x], limits: {perDay: -1}}]`:                     "[0].limits: ",
		`[{name: a, hosts: [x], limitReplies: [{enhanced: "5.4"}]}]`:        "[0].limitReplies: ",
		`[{name: a, hosts: [x], limitReplies: [{texts: ["too much"]}]}]`:    "[0].limitReplies: ",
		`{gmail: {}}`:                            "must be a list",
		"[" + strings.Repeat("{}, ", 1001) + "]": "at most 1000",
	} {
		if _, err := NewProfiles(own); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", own, err)
		}
	}
}

func TestLimitReply(t *testing.T) {
	for _, tt := range []struct {
		host, address string
		code          int
		enhanced      [3]int
		text          string
		hit, slots    bool
	}{
		{"smtp.gmail.com", "a@gmail.com", 550, [3]int{5, 4, 5}, "Daily user sending limit exceeded.", true, false},
		{"smtp.gmail.com", "a@gmail.com", 421, [3]int{4, 7, 28}, "unusual rate", true, false},
		{"smtp.gmail.com", "a@gmail.com", 421, [3]int{4, 7, 0}, "Try again later", false, false},
		{"smtp.office365.com", "a@b", 432, [3]int{4, 3, 2}, "Concurrent connections limit exceeded.", true, true},
		{"smtp.office365.com", "a@b", 554, [3]int{5, 2, 0}, "STOREDRV; SubmissionQuotaExceededException", true, false},
		{"smtp.office365.com", "a@b", 554, [3]int{5, 2, 0}, "mailbox full", false, false},
		{"smtp.office365.com", "a@b", 550, [3]int{5, 2, 252}, "", true, false},
		{"smtp.office365.com", "a@b", 550, [3]int{5, 2, 256}, "", false, false},
		{"mail.example.com", "a@b", 550, [3]int{5, 4, 5}, "", true, false},
		{"mail.example.com", "a@b", 452, [3]int{4, 4, 5}, "", true, false},
		{"mail.example.com", "a@b", 550, [3]int{5, 7, 1}, "Sending quota used up", true, false},
		{"mail.example.com", "a@b", 550, [3]int{5, 7, 1}, "Relay access denied", false, false},
		{"mail.example.com", "a@b", 450, [3]int{4, 2, 1}, "receiving mail too quickly", false, false},
		{"mail.example.com", "a@b", 550, [3]int{}, "quota", false, false},
	} {
		p := builtin().Match(tt.host, tt.address)
		if hit, slots := p.limit(tt.code, tt.enhanced, tt.text); hit != tt.hit || slots != tt.slots {
			t.Errorf("%s %d %v %q: %v, %v", tt.host, tt.code, tt.enhanced, tt.text, hit, slots)
		}
	}
}
