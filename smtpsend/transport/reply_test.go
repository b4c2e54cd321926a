package transport

import (
	"bufio"
	"encoding/base64"
	"errors"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"github.com/postrider/postrider/internal/redact"
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

// What a server says of a token comes in base64.
func TestChallenge_hides_the_token(t *testing.T) {
	const secret = "S3cret/pass+phrase-x"
	told := reply{code: 334, texts: []string{base64.StdEncoding.EncodeToString([]byte(`{"status":"400","was":"` + secret + `"}`))}, hide: redact.New(secret)}
	if got := challenge(told); got != `{"status":"400","was":"***"}` {
		t.Errorf("a challenge says %q", got)
	}
}
