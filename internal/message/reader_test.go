package message

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"strings"
	"testing"
	"testing/iotest"
)

// However a body comes, it is what Decode makes of it whole.
func TestNewReader(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	pieces := []string{"=", "=3D", "=C", "3D", "=\n", "=\r\n", " ", "\t ", "\n", "\r\n", "\r", "ab", "QUJD", "QQ==", "é", "-", "x=y "}
	bodies := []string{"", "=", strings.Repeat("=41", 20_000), strings.Repeat(" ", 20_000) + "x", strings.Repeat("QUJD\r\n", 20_000) + "QQ"}
	for range 300 {
		var b strings.Builder
		for range r.IntN(60) {
			b.WriteString(pieces[r.IntN(len(pieces))])
		}
		bodies = append(bodies, b.String())
	}
	for _, body := range bodies {
		for _, encoding := range []string{"Base64 ", "quoted-printable", "7bit", ""} {
			want, _ := Decode(encoding, []byte(body), 1<<20, nil)
			for name, in := range map[string]io.Reader{
				"whole": strings.NewReader(body), "in bytes": iotest.OneByteReader(strings.NewReader(body)), "with its end": iotest.DataErrReader(strings.NewReader(body)),
			} {
				if got, err := io.ReadAll(NewReader(encoding, in)); err != nil || !bytes.Equal(got, want) {
					t.Fatalf("%s, %s: %v, %.100q, want %.100q of %.100q", encoding, name, err, got, want, body)
				}
			}
		}
	}
	broken := errors.New("broken")
	if got, err := io.ReadAll(NewReader("base64", io.MultiReader(strings.NewReader("QUJDQ"), iotest.ErrReader(broken)))); !errors.Is(err, broken) || string(got) != "ABC" {
		t.Errorf("%q, %v", got, err)
	}
}
