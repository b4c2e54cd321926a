// Package messagetest holds mail of the kinds that break readers, with what is to be made
// of it: for the reader's own tests, and for those of what stands on it.
package messagetest

import (
	"fmt"
	"strings"
)

// Mail is one message.
type Mail struct {
	Name string
	Raw  string
	// What a reader is to find.
	Plain, HTML string
	Files       []string // type, and file name behind a space, of each attachment
	Cut         bool
	Warnings    []string
	Huge        bool // megabytes
}

// lf makes the line ends of mail.
func lf(s string) string { return strings.ReplaceAll(s, "\n", "\r\n") }

const from = "From: a@example.com\nTo: b@example.com\nSubject: odd\nMIME-Version: 1.0\n"

// mixed is a multipart/mixed of parts as they are given.
func mixed(parts ...string) string {
	return lf(from + "Content-Type: multipart/mixed; boundary=b\n\n--b\n" + strings.Join(parts, "\n--b\n") + "\n--b--\n")
}

func single(header, body string) string { return lf(from+header+"\n\n") + body }

// Odd are messages that are wrong, or legal and strange.
func Odd() []Mail {
	nest := func(n int, body string) string {
		var b strings.Builder
		b.WriteString(from)
		for i := range n {
			fmt.Fprintf(&b, "Content-Type: multipart/mixed; boundary=b%d\n\n--b%d\n", i, i)
		}
		b.WriteString("Content-Type: text/plain\n\n" + body + "\n")
		for i := n - 1; i >= 0; i-- {
			fmt.Fprintf(&b, "--b%d--\n", i)
		}
		return lf(b.String())
	}
	many := func(n int) string {
		return lf(from+"Content-Type: multipart/mixed; boundary=b\n\n") + strings.Repeat("--b\r\n\r\nx\r\n", n) + "--b--\r\n"
	}
	deep := func(n int, inside string) string {
		s := inside
		for range n {
			s = "Content-Type: message/rfc822\n\n" + s
		}
		return s
	}
	plain := func(name, raw, text string) Mail { return Mail{Name: name, Raw: raw, Plain: text} }
	return []Mail{
		// Structure.
		plain("empty", "", ""),
		plain("only a line end", "\r\n", ""),
		plain("no header at all", "hello, this is no header\r\nnor this\r\n\r\nbye\r\n", "hello, this is no header\nnor this\n\nbye\n"),
		plain("header without end", lf("From: a@example.com\nSubject: x"), ""),
		plain("leading empty line", lf("\nFrom: a@example.com\n\nbody\n"), "From: a@example.com\n\nbody\n"),
		plain("mbox line first", lf("From a@example.com Sat Nov 21 10:00:00 2026\n"+from+"\nbody\n"), "body\n"),
		plain("header line without colon", lf("Subject: x\nthis is no field\nContent-Type: text/plain\n\nbody\n"), "body\n"),
		plain("header line of colons", lf(":::\n"+from+"\nbody\n"), "body\n"),
		plain("space before colon", lf("Content-Type : text/plain; charset=utf-8\nSubject : x\n\nbody\n"), "body\n"),
		plain("continuation first", lf(" odd\n"+from+"\nbody\n"), "body\n"),
		plain("bare CR line ends", strings.ReplaceAll(from+"Content-Type: text/plain\n\nbody\nmore", "\n", "\r"), "body\rmore"),
		plain("bare LF line ends", from+"\nbody\nmore\n", "body\nmore\n"),
		plain("mixed line ends", "From: a@example.com\nSubject: x\r\nContent-Type: text/plain\n\r\nbody\n", "body\n"),
		plain("NULs", lf("Subject: a\x00b\n\nbo\x00dy\n"), "body\n"),
		plain("control characters", single("Content-Type: text/plain", "a\x01b\x1bc"), "a\x01b\x1bc"),
		{Name: "two content types", Raw: single("Content-Type: text/html\nContent-Type: text/plain", "<p>x"), HTML: "<p>x"},
		plain("content type without slash", single("Content-Type: text", "body"), "body"),
		plain("content type of nothing", single("Content-Type:", "body"), "body"),
		plain("content type of spaces", single("Content-Type: plain text", "body"), "body"),
		{Name: "html in capitals", Raw: single("CONTENT-TYPE: TEXT/HTML; CHARSET=UTF-8", "<b>x</b>"), HTML: "<b>x</b>"},
		plain("multipart without boundary", single("Content-Type: multipart/mixed", "--x\r\n\r\nbody\r\n--x--\r\n"), "--x\n\nbody\n--x--\n"),
		plain("multipart with empty boundary", single(`Content-Type: multipart/mixed; boundary=""`, "--\r\n\r\nbody\r\n"), "--\n\nbody\n"),
		plain("boundary that never comes", single("Content-Type: multipart/mixed; boundary=b", "just text\r\n"), "just text\n"),
		plain("boundary closed at once", single("Content-Type: multipart/mixed; boundary=b", "--b--\r\nlate"), "--b--\nlate"),
		plain("boundary never closed", lf(from+"Content-Type: multipart/mixed; boundary=b\n\n--b\n\nbody\n"), "body\n"),
		plain("part cut in its header", lf(from+"Content-Type: multipart/mixed; boundary=b\n\n--b\nContent-Type: text/pl"), "").with("text/pl"),
		plain("boundary inside a header", mixed("Content-Type: text/plain", "Content-Type: application/x-none\n\nx"), "").with("application/x-none"),
		plain("boundary with quotes and spaces", lf(from+"Content-Type: multipart/mixed; boundary=\"a b  \"\n\n--a b\n\nbody\n--a b--\n"), "body"),
		plain("boundary beginning like another", lf(from+"Content-Type: multipart/mixed; boundary=b\n\n--bb\nno\n--b\n\nbody\n--bb\nstill\n--b--\n"), "body\n--bb\nstill"),
		plain("boundary with spaces behind", lf(from+"Content-Type: multipart/mixed; boundary=b\n\n--b  \t\n\nbody\n--b-- \n"), "body"),
		plain("preamble and epilogue", lf(from+"Content-Type: multipart/mixed; boundary=b\n\npre\n--b\n\nbody\n--b--\npost\n--b\n\nghost\n"), "body"),
		plain("same boundary inside", mixed("Content-Type: multipart/alternative; boundary=b\n\n--b\n\ninner\n--b--", "\nouter"), "inner").with("text/plain"),
		plain("inner never closed", mixed("Content-Type: multipart/alternative; boundary=c\n\n--c\n\ninner", "Content-Type: application/pdf; name=x.pdf\n\nx"), "inner").with("application/pdf x.pdf"),
		plain("part without an empty line", mixed("body without header"), "body without header"),
		plain("nested to thirty", nest(29, "deep"), "deep"),
		{Name: "nested two thousand deep", Raw: nest(2000, "deep"), Files: []string{"multipart/mixed"}, Cut: true},
		{Name: "ten thousand parts", Raw: many(10_000), Plain: "x", Files: repeat("text/plain", 998), Cut: true},
		plain("digest", lf(from+"Content-Type: multipart/digest; boundary=b\n\n--b\n\nSubject: inner\n\nx\n--b--\n"), "").with("message/rfc822"),
		plain("message in a message", mixed("\nsee below", deep(3, "Subject: inner\n\nx")), "see below").with("message/rfc822"),
		plain("a thousand messages in messages", mixed("\nsee below", deep(1000, "Subject: inner\n\nx")), "see below").with("message/rfc822"),
		{
			Name:  "report",
			Raw:   lf(from + "Content-Type: multipart/report; report-type=delivery-status; boundary=b\n\n--b\n\nfailed\n--b\nContent-Type: message/delivery-status\n\nAction: failed\n--b\nContent-Type: text/rfc822-headers\n\nSubject: x\n--b--\n"),
			Plain: "failed", Files: []string{"message/delivery-status", "text/rfc822-headers"},
		},
		plain("alternative of one", lf(from+"Content-Type: multipart/alternative; boundary=b\n\n--b\n\nonly\n--b--\n"), "only"),
		plain("second text is an attachment", mixed("\none", "\nfooter"), "one").with("text/plain"),
		plain("named text is an attachment", mixed("Content-Type: text/plain; name=a.txt\n\none", "\ntwo"), "two").with("text/plain a.txt"),
		plain("winmail", mixed("\ntext", "Content-Type: application/ms-tnef; name=winmail.dat\nContent-Transfer-Encoding: base64\n\neJ8+IhAQ"), "text").with("application/ms-tnef winmail.dat"),

		// Transfer encodings.
		plain("base64 cut", single("Content-Type: text/plain\nContent-Transfer-Encoding: base64", "aGVsbG8gd29ybG"), "hello worl"),
		plain("base64 with junk", single("Content-Transfer-Encoding: BASE64", "aGVs!bG8\r\n ***gd29y\r\nbGQ="), "hello world"),
		plain("base64 line by line", single("Content-Transfer-Encoding: base64", "aGVsbG8=\r\nIHdvcmxk\r\n"), "hello world"),
		plain("base64 without padding", single("Content-Transfer-Encoding: base64", "aGVsbG8"), "hello"),
		plain("base64 of nothing", single("Content-Transfer-Encoding: base64", "****"), ""),
		plain("base64 with a footer", single("Content-Transfer-Encoding: base64", "aGVsbG8=\r\n"), "hello"),
		plain("quoted with bad escapes", single("Content-Transfer-Encoding: quoted-printable", "a=ZZb=3Dc=\r\nd=e9 =C3=A9 =c3=a9"), "a=ZZb=cd� é é").in("utf-8"),
		plain("quoted ends in an escape", single("Content-Transfer-Encoding: quoted-printable", "abc="), "abc"),
		plain("quoted with spaces at the end", single("Content-Transfer-Encoding: quoted-printable", "a  \r\nb=20\r\n"), "a\nb \n"),
		{Name: "unknown encoding", Raw: single("Content-Transfer-Encoding: x-magic", "body"), Plain: "body", Warnings: []string{"encoding x-magic"}},
		plain("encoding with a comment", single("Content-Transfer-Encoding: 8bit; odd", "body"), "body"),
		{Name: "one line of megabytes", Raw: single("Content-Type: text/plain", strings.Repeat("x", 8<<20)), Plain: "", Huge: true},
		{Name: "a subject of a megabyte", Raw: lf("Subject: "+strings.Repeat("x", 1<<20)+"\nContent-Type: text/html\n\n") + "<p>x", Plain: "<p>x", Huge: true},

		// Charsets.
		plain("raw utf-8 without a word", single("Content-Type: text/plain", "Grüße ☂"), "Grüße ☂"),
		plain("raw latin-1 without a word", single("Content-Type: text/plain", "Gr\xfc\xdfe"), "Grüße"),
		plain("windows-1252 called latin-1", single("Content-Type: text/plain; charset=iso-8859-1", "\x93x\x94 \x80"), "“x” €"),
		plain("us-ascii with more", single("Content-Type: text/plain; charset=us-ascii", "Gr\xfc\xdfe"), "Grüße"),
		plain("latin-1 called utf-8", single("Content-Type: text/plain; charset=utf-8", "Gr\xfc\xdfe"), "Gr�e"),
		{Name: "utf-7", Raw: single("Content-Type: text/plain; charset=utf-7", "Hi Mom -+Jjo--!"), Plain: "Hi Mom -+Jjo--!", Warnings: []string{"charset utf-7"}},
		{Name: "unknown charset", Raw: single("Content-Type: text/plain; charset=x-klingon", "qapla\xff"), Plain: "qapla�", Warnings: []string{"charset x-klingon"}},
		plain("charset in quotes", single("Content-Type: text/plain; charset='utf-8'", "ü"), "ü"),
		plain("koi8-r", single("Content-Type: text/plain; charset=koi8-r", "\xf0\xd2\xc9\xd7\xc5\xd4"), "Привет"),
		plain("windows-1251 twice", single("Content-Type: text/plain; charset=windows-1251; charset=utf-8", "\xcf\xf0\xe8\xe2\xe5\xf2"), "Привет"),
		plain("iso-2022-jp", single("Content-Type: text/plain; charset=iso-2022-jp", "\x1b$B$3$s$K$A$O\x1b(B"), "こんにちは"),
		plain("gb2312", single("Content-Type: text/plain; charset=gb2312\nContent-Transfer-Encoding: base64", "xOO6ww=="), "你好"),
		plain("big5", single("Content-Type: text/plain; charset=big5", "\xa7A\xa6n"), "你好"),
		plain("utf-16 with its mark", single("Content-Type: text/plain; charset=utf-16\nContent-Transfer-Encoding: base64", "//5oAGkA"), "hi"),
		plain("utf-8 with its mark", single("Content-Type: text/plain; charset=utf-8", "\xef\xbb\xbfhi"), "hi"),
		{Name: "charset in html alone", Raw: single("Content-Type: text/html", "<meta charset=koi8-r><p>\xf0\xd2"), HTML: "<meta charset=koi8-r><p>Пр"},

		// Names.
		plain("name by RFC 2231", mixed("\nx", "Content-Type: application/pdf\nContent-Disposition: attachment; filename*=UTF-8''Rechnung%20%C3%BC.pdf\n\nx"), "x").with("application/pdf Rechnung ü.pdf"),
		plain("name in pieces", mixed("\nx", "Content-Type: application/pdf\nContent-Disposition: attachment; filename*1*=%C3%BC; filename*0*=utf-8''a; filename*2=.pdf\n\nx"), "x").with("application/pdf aü.pdf"),
		plain("name by RFC 2047", mixed("\nx", "Content-Type: application/pdf; name=\"=?iso-8859-1?Q?=FC.pdf?=\"\n\nx"), "x").with("application/pdf ü.pdf"),
		plain("name never closed", mixed("\nx", "Content-Type: application/pdf; name=\"a.pdf\n\nx"), "x").with("application/pdf a.pdf"),
		plain("name with a path", mixed("\nx", "Content-Type: application/pdf; name=\"../../etc/passwd\"\n\nx"), "x").with("application/pdf ../../etc/passwd"),
		plain("parameters without end", single("Content-Type: text/plain;"+strings.Repeat(" a=b;", 5000), "body"), "body"),
		plain("a calendar", mixed("\nx", "Content-Type: text/calendar; method=request\n\nBEGIN:VCALENDAR\nEND:VCALENDAR"), "x").with("text/calendar"),
	}
}

func repeat(s string, n int) []string {
	out := make([]string, n)
	for i := range out {
		out[i] = s
	}
	return out
}

func (m Mail) with(files ...string) Mail { m.Files = files; return m }

// in says the charset of a text whose header has none.
func (m Mail) in(charset string) Mail {
	m.Raw = strings.Replace(m.Raw, "\r\nContent-Transfer", "\r\nContent-Type: text/plain; charset="+charset+"\r\nContent-Transfer", 1)
	return m
}
