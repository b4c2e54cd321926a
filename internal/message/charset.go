package message

import (
	"bytes"
	"io"
	"strings"
	"unicode/utf8"

	"github.com/emersion/go-message/charset"
	"golang.org/x/text/encoding/charmap"
)

// convert makes UTF-8 of text in a charset; what is no character becomes U+FFFD. Not ok:
// the charset is unknown. Without a charset, text is UTF-8 where it can be, else
// windows-1252, as browsers hold it.
func convert(name string, b []byte) (text string, ok bool) {
	name = strings.ToLower(strings.Trim(name, " \t\"'"))
	switch name {
	case "utf-8", "utf8":
		return strings.ToValidUTF8(string(b), "\uFFFD"), true
	case "", "us-ascii", "ascii", "ansi_x3.4-1968", "iso-8859-1", "latin1", "unknown", "x-unknown", "unknown-8bit", "default", "binary":
		// Who says us-ascii and sends more did not know what he sent. ISO 8859-1 has
		// control characters where windows-1252, which is meant, has letters.
		if name != "iso-8859-1" && name != "latin1" && utf8.Valid(b) || isASCII(b) {
			return string(b), true
		}
		out, err := charmap.Windows1252.NewDecoder().Bytes(b)
		return string(out), err == nil
	}
	r, err := charset.Reader(name, bytes.NewReader(b))
	if err != nil {
		return "", false
	}
	out, err := io.ReadAll(r) // at most three bytes for one
	if err != nil {
		return "", false
	}
	return strings.ToValidUTF8(string(out), "\uFFFD"), true
}

func isASCII(b []byte) bool {
	for _, c := range b {
		if c >= utf8.RuneSelf {
			return false
		}
	}
	return true
}
