package messagetest

import (
	"encoding/base64"
	"fmt"
	"strings"
)

// Well are messages as good mailers make them, each with a Message-ID, <well-n@x>.
func Well() []Mail {
	b64 := func(s string) string {
		s = base64.StdEncoding.EncodeToString([]byte(s))
		var out strings.Builder
		for len(s) > 76 {
			out.WriteString(s[:76] + "\r\n")
			s = s[76:]
		}
		return out.String() + s + "\r\n"
	}
	long := strings.Repeat("The quick brown fox jumps over the lazy dog. ", 40) + "\n"
	ics := "BEGIN:VCALENDAR\nVERSION:2.0\nMETHOD:REQUEST\nBEGIN:VEVENT\nUID:well@x\nDTSTART:20261201T090000Z\nDTEND:20261201T100000Z\nSUMMARY:Lunch\nORGANIZER:mailto:jo@example.com\nEND:VEVENT\nEND:VCALENDAR\n"
	alternative := "Content-Type: multipart/alternative; boundary=alt\n\n--alt\nContent-Type: text/plain; charset=utf-8\nContent-Transfer-Encoding: quoted-printable\n\nGr=C3=BC=C3=9Fe=20\n--alt\nContent-Type: text/html; charset=utf-8\n\n<p>hi</p>\n--alt--\n"
	list := []Mail{
		{Name: "ascii", Raw: single("Content-Type: text/plain; charset=us-ascii", "hello\r\n"), Plain: "hello\n"},
		{Name: "8-bit", Raw: single("Content-Type: text/plain; charset=utf-8\nContent-Transfer-Encoding: 8bit", "Grüße ☂\r\n"), Plain: "Grüße ☂\n"},
		{Name: "quoted-printable", Raw: single("Content-Type: text/plain; charset=iso-8859-15\nContent-Transfer-Encoding: quoted-printable", "10 =A4 =\r\nplus\r\n"), Plain: "10 € plus\n"},
		{Name: "base64 over lines", Raw: single("Content-Type: text/plain; charset=utf-8\nContent-Transfer-Encoding: base64", b64(long)), Plain: long},
		{Name: "windows-1252", Raw: single("Content-Type: text/plain; charset=windows-1252\nContent-Transfer-Encoding: 8bit", "\x93caf\xe9\x94\r\n"), Plain: "“café”\n"},
		{Name: "koi8-r", Raw: single("Content-Type: text/plain; charset=koi8-r\nContent-Transfer-Encoding: 8bit", "\xf0\xd2\xc9\xd7\xc5\xd4\r\n"), Plain: "Привет\n"},
		{Name: "iso-2022-jp", Raw: single("Content-Type: text/plain; charset=iso-2022-jp", "\x1b$B$3$s$K$A$O\x1b(B\r\n"), Plain: "こんにちは\n"},
		{Name: "gb18030", Raw: single("Content-Type: text/plain; charset=gb18030\nContent-Transfer-Encoding: base64", "xOO6ww==\r\n"), Plain: "你好"},
		{Name: "euc-kr", Raw: single("Content-Type: text/plain; charset=euc-kr\nContent-Transfer-Encoding: 8bit", "\xbe\xc8\xb3\xe7\r\n"), Plain: "안녕\n"},
		{Name: "html alone", Raw: single("Content-Type: text/html; charset=utf-8", "<p>x</p>\r\n"), HTML: "<p>x</p>\n"},
		{Name: "alternative", Raw: lf(from + alternative), Plain: "Grüße ", HTML: "<p>hi</p>"},
		{
			Name:  "alternative in mixed, with files",
			Raw:   mixed(alternative, "Content-Type: application/pdf; name=a.pdf\nContent-Disposition: attachment; filename=a.pdf\nContent-Transfer-Encoding: base64\n\nZmlsZQ==", "Content-Type: text/csv\nContent-Disposition: attachment; filename*=utf-8''%C3%BC.csv\n\na,b"),
			Plain: "Grüße ", HTML: "<p>hi</p>", Files: []string{"application/pdf a.pdf", "text/csv ü.csv"},
		},
		{
			Name:  "related",
			Raw:   lf(from + "Content-Type: multipart/related; boundary=r\n\n--r\nContent-Type: text/html; charset=utf-8\n\n<img src=\"cid:i@x\">\n--r\nContent-Type: image/png\nContent-ID: <i@x>\nContent-Disposition: inline; filename=i.png\nContent-Transfer-Encoding: base64\n\niVBORw==\n--r--\n"),
			HTML:  `<img src="cid:i@x">`,
			Files: []string{"image/png i.png"},
		},
		{
			Name:  "invitation",
			Raw:   lf(from + "Content-Type: multipart/alternative; boundary=i\n\n--i\nContent-Type: text/plain; charset=utf-8\n\nLunch?\n--i\nContent-Type: text/calendar; method=REQUEST; charset=utf-8\n\n" + ics + "\n--i--\n"),
			Plain: "Lunch?", Files: []string{"text/calendar"},
		},
		{Name: "message inside", Raw: mixed("Content-Type: text/plain\n\nsee", "Content-Type: message/rfc822\n\nSubject: inner\n\ninner"), Plain: "see", Files: []string{"message/rfc822"}},
	}
	for i := range list {
		list[i].Raw = fmt.Sprintf("Message-ID: <well-%d@x>\r\n", i) + list[i].Raw
	}
	return list
}
