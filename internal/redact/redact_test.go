package redact

import (
	"encoding/base64"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestHide(t *testing.T) {
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
			if d := cmp.Diff(tt.want, New(tt.secret).Hide(tt.in)); d != "" {
				t.Error(d)
			}
		})
	}
	// Whatever part is shown, whatever stands before it in base64.
	const secret = "S3cret/pass+phrase-x"
	r := New(secret)
	for from := range secret {
		for to := from + 6; to <= len(secret); to++ {
			shown := []string{secret[from:to]}
			for _, before := range []string{"", "\x00", "jo", "\x00jo\x00", "user=jo\x01auth=Bearer "} {
				if to-from > 8 { // at least eight letters are made of nothing else
					shown = append(shown, base64.StdEncoding.EncodeToString([]byte(before+secret[from:to])))
				}
			}
			for _, s := range shown {
				if got := r.Hide("wrong: " + s + " (535)"); got != "wrong: *** (535)" {
					t.Fatalf("%q: %q", s, got)
				}
			}
		}
	}
	if got := New(token).Hide(strings.Repeat("x", 2*Most)); len(got) != Most {
		t.Errorf("%d octets are looked at", len(got))
	}
}

func FuzzHide(f *testing.F) {
	f.Add("secret", "535 no secret, no c2VjcmV0")
	f.Add("a\xffb\\c", "\xff\x00")
	f.Fuzz(func(t *testing.T, secret, in string) {
		if text, _ := plain(secret); len(text) < 4 || len(in)+len(secret) > Most/2 || strings.Contains(secret, "*") {
			return
		}
		if got := New(secret).Hide("x " + in + " " + secret); strings.Contains(got, secret) {
			t.Errorf("%q shows %q", got, secret)
		}
	})
}
