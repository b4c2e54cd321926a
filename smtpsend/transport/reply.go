package transport

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"unicode"

	"github.com/postrider/postrider/internal/redact"
)

const (
	maxReply      = 64 << 10 // octets of a reply
	maxReplyLines = 100
	maxLine       = 1000 // octets of Error.Line
)

var (
	errTooLong  = errors.New("reply is too long")
	errNotReply = errors.New("not an SMTP reply")
)

// reply is what a server answered.
type reply struct {
	code     int
	enhanced [3]int   // zero = none
	texts    []string // of its lines, without the codes
	hide     redact.Redactor
}

// readReply reads a reply of one or more lines (RFC 5321 section 4.2.1). What is not one,
// and what is too long, ends the connection: nobody knows where the next reply begins.
func readReply(r *bufio.Reader) (reply, error) {
	var out reply
	for size := 0; ; {
		line, err := readLine(r, maxReply-size)
		if err != nil {
			return reply{}, err
		}
		size += len(line)
		if len(out.texts) == maxReplyLines {
			return reply{}, errTooLong
		}
		line = bytes.TrimRight(line, "\r\n")
		code, more, text, err := splitLine(line)
		if err != nil || out.code != 0 && code != out.code {
			return reply{}, errNotReply
		}
		enhanced, text := splitEnhanced(code, text)
		if out.code == 0 {
			out.code, out.enhanced = code, enhanced
		}
		out.texts = append(out.texts, text)
		if !more {
			return out, nil
		}
	}
}

// readLine reads a line of at most limit octets.
func readLine(r *bufio.Reader, limit int) ([]byte, error) {
	var line []byte
	for {
		part, err := r.ReadSlice('\n')
		if len(line)+len(part) > limit {
			return nil, errTooLong
		}
		line = append(line, part...)
		if !errors.Is(err, bufio.ErrBufferFull) {
			return line, err
		}
	}
}

// splitLine takes a line apart: three digits, then "-" where more lines follow.
func splitLine(line []byte) (code int, more bool, text string, err error) {
	if len(line) < 3 {
		return 0, false, "", errNotReply
	}
	for _, d := range line[:3] {
		if d < '0' || d > '9' {
			return 0, false, "", errNotReply
		}
		code = code*10 + int(d-'0')
	}
	if code < 200 || code > 599 {
		return 0, false, "", errNotReply
	}
	switch rest := line[3:]; {
	case len(rest) == 0:
		return code, false, "", nil
	case rest[0] == '-', rest[0] == ' ':
		return code, rest[0] == '-', string(rest[1:]), nil
	}
	return 0, false, "", errNotReply
}

// splitEnhanced takes the enhanced code off a text (RFC 2034 section 4). Its class must
// be the reply's.
func splitEnhanced(code int, text string) (enhanced [3]int, rest string) {
	head, tail, _ := strings.Cut(text, " ")
	parts := strings.Split(head, ".")
	if len(parts) != 3 || len(head) > len("5.123.123") {
		return enhanced, text
	}
	for i, p := range parts {
		n, err := strconv.Atoi(p)
		if err != nil || n < 0 || p[0] == '+' || len(p) > 3 {
			return [3]int{}, text
		}
		enhanced[i] = n
	}
	if enhanced[0] != code/100 {
		return [3]int{}, text
	}
	return enhanced, tail
}

// line is the reply as Error.Line shows it.
func (r reply) line() string {
	var b strings.Builder
	for _, t := range r.texts {
		if t = strings.TrimSpace(t); t != "" && b.Len() < redact.Most {
			b.WriteString(" " + t)
		}
	}
	code := strconv.Itoa(r.code)
	if s := enhancedText(r.enhanced); s != "" {
		code += " " + s
	}
	return clean(code + r.hide.Hide(b.String()))
}

// clean makes a server's text fit to be shown and stored.
func clean(s string) string {
	s = strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(s, "\uFFFD"))
	if len(s) > maxLine {
		s = strings.ToValidUTF8(s[:maxLine], "") // a character may have been cut
	}
	return s
}

// enhancedText is "5.1.1", or "".
func enhancedText(e [3]int) string {
	if e[0] == 0 {
		return ""
	}
	return fmt.Sprintf("%d.%d.%d", e[0], e[1], e[2])
}
