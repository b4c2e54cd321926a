package transport

import (
	"fmt"
	"strings"
	"unicode/utf8"
)

// maxPath and maxLocal are RFC 5321's sections 4.5.3.1.3 and 4.5.3.1.1, without the brackets.
const (
	maxPath  = 254
	maxLocal = 64
)

// check refuses what no server is to be asked for. Nothing else may reach a command line.
func (env *Envelope) check() *Error {
	if len(env.To) == 0 {
		return ours(PhaseRcpt, KindEnvelope, [3]int{5, 5, 4}, "no recipient")
	}
	if env.From != "" && !isAddress(env.From, env.UTF8) {
		return ours(PhaseMail, KindEnvelope, [3]int{5, 1, 7}, "not an address to send from: %q", env.From)
	}
	for _, to := range env.To {
		if !isAddress(to, env.UTF8) {
			return ours(PhaseRcpt, KindEnvelope, [3]int{5, 1, 3}, "not an address to send to: %q", to)
		}
	}
	return nil
}

// able says what the server lacks for this message.
func (c *conn) able(env *Envelope) *Error {
	lacks := func(enhanced [3]int, format string, args ...any) *Error {
		return ours(PhaseMail, KindMessage, enhanced, format, args...)
	}
	switch most := c.maxSize(); {
	case most > 0 && env.Size > most:
		return lacks([3]int{5, 3, 4}, "message has %d octets, the server takes %d", env.Size, most)
	case env.UTF8 && !c.has("SMTPUTF8"):
		return lacks([3]int{5, 6, 7}, "server does not offer SMTPUTF8")
	case env.EightBit && !c.has("8BITMIME"):
		return lacks([3]int{5, 6, 3}, "server does not offer 8BITMIME")
	case env.RequireTLS && !(c.secure && c.verified && c.has("REQUIRETLS")):
		return lacks([3]int{5, 7, 30}, "server does not offer REQUIRETLS on a verified connection")
	}
	return nil
}

// mailLine is MAIL with what is needed of what is offered.
func (c *conn) mailLine(env *Envelope) string {
	var b strings.Builder
	b.WriteString("MAIL FROM:<" + env.From + ">")
	if env.Size > 0 && c.has("SIZE") {
		fmt.Fprintf(&b, " SIZE=%d", env.Size)
	}
	if env.EightBit {
		b.WriteString(" BODY=8BITMIME")
	}
	if env.UTF8 {
		b.WriteString(" SMTPUTF8")
	}
	if env.RequireTLS {
		b.WriteString(" REQUIRETLS")
	}
	if c.has("DSN") {
		switch env.DSN.Return {
		case "headers":
			b.WriteString(" RET=HDRS")
		case "full":
			b.WriteString(" RET=FULL")
		}
		if env.DSN.ID != "" {
			b.WriteString(" ENVID=" + xtext(env.DSN.ID))
		}
	}
	return b.String()
}

// rcptLine is RCPT for one recipient.
func (c *conn) rcptLine(env *Envelope, to string) string {
	var b strings.Builder
	b.WriteString("RCPT TO:<" + to + ">")
	if c.has("DSN") {
		if len(env.DSN.Notify) > 0 {
			b.WriteString(" NOTIFY=" + xtext(strings.ToUpper(strings.Join(env.DSN.Notify, ","))))
		}
		original := env.DSN.Recipient
		if original == "" {
			original = to
		}
		// Others would need RFC 6533's encoding, for a field nobody reads.
		if env.DSN.wanted() && isASCII(original) {
			b.WriteString(" ORCPT=rfc822;" + xtext(original))
		}
	}
	return b.String()
}

// xtext is RFC 3461 section 4.
func xtext(s string) string {
	var b strings.Builder
	for i := range len(s) {
		if ch := s[i]; ch < '!' || ch > '~' || ch == '+' || ch == '=' {
			fmt.Fprintf(&b, "+%02X", ch)
		} else {
			b.WriteByte(ch)
		}
	}
	return b.String()
}

// isAddress checks a Mailbox (RFC 5321 section 4.1.2, with RFC 6531 section 3.3 for
// unicode), so strictly that it cannot end its own brackets.
func isAddress(s string, unicode bool) bool {
	at := strings.LastIndexByte(s, '@')
	if at < 1 || len(s) > maxPath || at > maxLocal || !utf8.ValidString(s) || !unicode && !isASCII(s) {
		return false
	}
	local, domain := s[:at], s[at+1:]
	if ValidEHLOName(domain) && domain[0] == '[' {
		return isLocal(local)
	}
	return isDomain(domain) && isLocal(local)
}

// isLocal checks a local part: a dot-string or a quoted string.
func isLocal(s string) bool {
	if s[0] != '"' {
		return isDots(s, func(ch rune) bool {
			return ch >= utf8.RuneSelf || isAlnum(ch) || strings.ContainsRune("!#$%&'*+-/=?^_`{|}~", ch)
		})
	}
	escaped := false
	for i, ch := range s[1:] {
		switch {
		case ch < ' ' || ch == 0x7f:
			return false
		case escaped:
			escaped = false
		case ch == '\\':
			escaped = true
		case ch == '"':
			return i+2 == len(s)
		}
	}
	return false
}

// isDomain checks a domain; which of its labels exist is DNS's affair.
func isDomain(s string) bool {
	return len(s) <= 255 && isDots(strings.TrimSuffix(s, "."), func(ch rune) bool { return ch >= utf8.RuneSelf || isAlnum(ch) || ch == '-' || ch == '_' })
}

// isDots says whether s is one or more words of allowed characters with dots between.
func isDots(s string, allowed func(rune) bool) bool {
	last := '.'
	for _, ch := range s {
		if ch == '.' && last == '.' || ch != '.' && !allowed(ch) {
			return false
		}
		last = ch
	}
	return last != '.'
}

func isAlnum(ch rune) bool {
	return 'a' <= ch && ch <= 'z' || 'A' <= ch && ch <= 'Z' || '0' <= ch && ch <= '9'
}

func isASCII(s string) bool {
	for i := range len(s) {
		if s[i] >= utf8.RuneSelf {
			return false
		}
	}
	return true
}
