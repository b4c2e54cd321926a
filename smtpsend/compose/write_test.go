package compose

import (
	"bytes"
	"encoding/base64"
	"errors"
	"io"
	"strings"
	"testing"
)

func opener(s string) func() (io.ReadCloser, error) {
	return func() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader(s)), nil }
}

func TestWriteTo(t *testing.T) {
	binary := strings.Repeat("\x00\xff\r\n=", 100)
	for name, tt := range map[string]struct {
		piece piece
		want  string
	}{
		"as it is":            {piece{data: "a\r\nb\n"}, "a\r\nb\n"},
		"line ends":           {piece{encoding: sevenBit, data: "a\nb\r\nc\rd\r\n\n"}, "a\r\nb\r\nc\r\nd\r\n\r\n"},
		"line ends, open end": {piece{encoding: eightBit, open: opener("é\n.\n..\nx"), size: -1}, "é\r\n.\r\n..\r\nx"},
		"quoted-printable":    {piece{encoding: quoted, data: "é = \n" + strings.Repeat("x", 80)}, "=C3=A9 =3D=20\r\n" + strings.Repeat("x", 75) + "=\r\n" + strings.Repeat("x", 5)},
		"base64, nothing":     {piece{encoding: base64ed, open: opener(""), size: 0}, ""},
		"base64, a line":      {piece{encoding: base64ed, open: opener(binary[:57]), size: 57}, base64.StdEncoding.EncodeToString([]byte(binary[:57]))},
		"base64, two lines": {
			piece{encoding: base64ed, open: opener(binary[:58]), size: 58, ends: true},
			base64.StdEncoding.EncodeToString([]byte(binary[:57])) + "\r\n" + base64.StdEncoding.EncodeToString([]byte(binary[57:58])) + "\r\n",
		},
	} {
		t.Run(name, func(t *testing.T) {
			c := Composed{pieces: []piece{tt.piece}}
			for range 2 { // it may be written again
				var b bytes.Buffer
				if n, err := c.WriteTo(&b); err != nil || n != int64(b.Len()) || b.String() != tt.want {
					t.Errorf("%d, %v: %q, want %q", n, err, b.String(), tt.want)
				}
			}
		})
	}
}

func TestWriteToFails(t *testing.T) {
	broken := errors.New("broken")
	at := func(p piece) Composed {
		p.encoding, p.location = base64ed, "attachments[0]"
		return Composed{pieces: []piece{p}}
	}
	c := at(piece{open: func() (io.ReadCloser, error) { return nil, broken }})
	if _, err := c.WriteTo(io.Discard); !errors.Is(err, broken) || !strings.HasPrefix(err.Error(), "attachments[0]: ") {
		t.Error(err)
	}
	for _, size := range []int64{2, 4} {
		c = at(piece{open: opener("abc"), size: size})
		if _, err := c.WriteTo(io.Discard); !errors.Is(err, errChanged) {
			t.Error(size, err)
		}
	}
	c = at(piece{open: opener(strings.Repeat("a", 1000)), size: -1})
	c.maxSize = 1000
	_, err := c.WriteTo(io.Discard)
	if e, ok := errors.AsType[*Error](err); !ok || !e.Has(MessageTooLarge) {
		t.Error(err)
	}
}
