package transport

import (
	"bufio"
	"encoding/base64"
	"errors"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
)

func TestReply(t *testing.T) {
	tests := []struct {
		name, in string
		code     int
		enhanced [3]int
		line     string
		err      error
	}{
		{"plain", "250 OK\r\n", 250, [3]int{}, "250 OK", nil},
		{"bare code", "250\r\n", 250, [3]int{}, "250", nil},
		{"bare newline", "250 OK\n", 250, [3]int{}, "250 OK", nil},
		{"enhanced", "550 5.1.1 no such user\r\n", 550, [3]int{5, 1, 1}, "550 5.1.1 no such user", nil},
		{"enhanced alone", "250 2.1.5\r\n", 250, [3]int{2, 1, 5}, "250 2.1.5", nil},
		{"enhanced on every line", "550-5.7.1 one\r\n550-5.7.1 two\r\n550 5.7.1 three\r\n", 550, [3]int{5, 7, 1}, "550 5.7.1 one two three", nil},
		{"another class is text", "550 4.1.1 odd\r\n", 550, [3]int{}, "550 4.1.1 odd", nil},
		{"an address is text", "250 2.1.5.9 x\r\n", 250, [3]int{}, "250 2.1.5.9 x", nil},
		{"control characters", "250 a\x00b\x1bc\r\n", 250, [3]int{}, "250 a b c", nil},
		{"not UTF-8", "250 caf\xe9\r\n", 250, [3]int{}, "250 caf\uFFFD", nil},
		{"codes differ", "250-one\r\n550 two\r\n", 0, [3]int{}, "", errNotReply},
		{"no code", "hello\r\n", 0, [3]int{}, "", errNotReply},
		{"short", "25\r\n", 0, [3]int{}, "", errNotReply},
		{"code out of range", "150 x\r\n", 0, [3]int{}, "", errNotReply},
		{"no separator", "250OK\r\n", 0, [3]int{}, "", errNotReply},
		{"100 lines", strings.Repeat("250-x\r\n", 99) + "250 x\r\n", 250, [3]int{}, "250" + strings.Repeat(" x", 100), nil},
		{"101 lines", strings.Repeat("250-x\r\n", 100) + "250 x\r\n", 0, [3]int{}, "", errTooLong},
		{"long line", "250 " + strings.Repeat("x", maxReply) + "\r\n", 0, [3]int{}, "", errTooLong},
		{"shown cut", "250 " + strings.Repeat("é", 600) + "\r\n", 250, [3]int{}, "250 " + strings.Repeat("é", 498), nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r, err := readReply(bufio.NewReaderSize(strings.NewReader(tt.in), 16))
			if !errors.Is(err, tt.err) {
				t.Fatalf("error %v, want %v", err, tt.err)
			}
			if err != nil {
				return
			}
			if d := cmp.Diff(tt.line, r.line()); d != "" || r.code != tt.code || r.enhanced != tt.enhanced {
				t.Errorf("%d %v %s", r.code, r.enhanced, d)
			}
		})
	}
}

func FuzzReply(f *testing.F) {
	f.Add("250-a.example greets\r\n250-SIZE 1000\r\n250 AUTH PLAIN\r\n") // RFC 5321 appendix D, abridged
	f.Add("550 5.1.1 x\r\n")
	f.Fuzz(func(t *testing.T, in string) {
		r, err := readReply(bufio.NewReaderSize(strings.NewReader(in), 16))
		if err != nil {
			return
		}
		if line := r.line(); len(line) > maxLine || !utf8.ValidString(line) || strings.ContainsAny(line, "\r\n\x00") {
			t.Errorf("line %q", line)
		}
	})
}

func TestDiscretion(t *testing.T) {
	token := "ya29.a0AfB_byC-" + strings.Repeat("q7Xz", 40)
	tests := []struct{ name, secret, in, want string }{
		{"nothing", "", "no", "no"},
		{"short", "no!", "no! really no!", "no! really no!"},
		{"four", "abcd", "so abcd", "so ***"},
		{"half", "Ab3$xyz9", "so Ab3$", "so ***"},
		{"less than half", "Ab3$xyz9", "so Ab3", "so Ab3"},
		{"escaped", `pa"ss\wo`, `is "pa\"ss\\wo" it`, `is "***" it`},
		{"folded", "secret-of-24", "is secr et-o f-24 it", "is *** it"},
		{"spaces", "abcd efgh ijkl", "not abcdefghijkl", "not ***"},
		{"not ASCII", "Schlüssel", "falsch: SCHLÜSSEL!", "falsch: ***!"},
		{"not UTF-8", "Schl\xfcssel", "falsch: Schl\xfcssel!", "falsch: ***!"},
		{"token", token, `{"status":"400","token":"` + token + `"}`, `{"status":"400","token":"***"}`},
		{"token cut", token, "bad token " + token[:20] + "...", "bad token ***..."},
		{"token in base64url", token, "bad eWEyOS5hMEFmQl9ieUMt, AAeWEyOS5hMEFmQl9ieUMt", "bad ***, ***"},
		{
			"a refusal", "correct-horse-battery", "Username and Password not accepted. For more information, go to https://support.google.com/mail/?p=BadCredentials 5b1f17b1804b1-4776-ae7f sm1-gsmtp",
			"Username and Password not accepted. For more information, go to https://support.google.com/mail/?p=BadCredentials 5b1f17b1804b1-4776-ae7f sm1-gsmtp",
		},
		{
			"a token's refusal", token, "Authentication unsuccessful, the user credentials were incorrect. [AM0PR04CA0012.eurprd04.prod.outlook.com 2026-11-22T18:00:00.000Z 08DE2A1B3C4D5E6F]",
			"Authentication unsuccessful, the user credentials were incorrect. [AM0PR04CA0012.eurprd04.prod.outlook.com 2026-11-22T18:00:00.000Z 08DE2A1B3C4D5E6F]",
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if d := cmp.Diff(tt.want, discreet(tt.secret).hide(tt.in)); d != "" {
				t.Error(d)
			}
		})
	}
	// Whatever part is shown, whatever stands before it in base64.
	const secret = "S3cret/pass+phrase-x"
	d := discreet(secret)
	for from := range secret {
		for to := from + 6; to <= len(secret); to++ {
			shown := []string{secret[from:to]}
			for _, before := range []string{"", "\x00", "jo", "\x00jo\x00", "user=jo\x01auth=Bearer "} {
				if to-from > 8 { // at least eight letters are made of nothing else
					shown = append(shown, base64.StdEncoding.EncodeToString([]byte(before+secret[from:to])))
				}
			}
			for _, s := range shown {
				if got := d.hide("wrong: " + s + " (535)"); got != "wrong: *** (535)" {
					t.Fatalf("%q: %q", s, got)
				}
			}
		}
	}
	told := reply{code: 334, texts: []string{base64.StdEncoding.EncodeToString([]byte(`{"status":"400","was":"` + secret + `"}`))}, hide: d}
	if got := challenge(told); got != `{"status":"400","was":"***"}` {
		t.Errorf("a challenge says %q", got)
	}
	if got := discreet(token).hide(strings.Repeat("x", 5*maxLine)); len(got) != 4*maxLine {
		t.Errorf("%d octets are looked at", len(got))
	}
}

func FuzzDiscretion(f *testing.F) {
	f.Add("secret", "535 no secret, no c2VjcmV0")
	f.Add("a\xffb\\c", "\xff\x00")
	f.Fuzz(func(t *testing.T, secret, in string) {
		if text, _ := plain(secret); len(text) < 4 || len(in)+len(secret) > 2*maxLine || strings.Contains(secret, "*") {
			return
		}
		if got := discreet(secret).hide("x " + in + " " + secret); strings.Contains(got, secret) {
			t.Errorf("%q shows %q", got, secret)
		}
	})
}
