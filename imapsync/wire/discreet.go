package wire

import (
	"slices"
	"strings"

	"github.com/emersion/go-imap/v2"

	"github.com/postrider/postrider/internal/redact"
	"github.com/postrider/postrider/store/secret"
)

// redactor hides what a server repeats of the credentials. It is made when a text is to be
// shown: an idle connection does not carry it.
func (c *Conn) redactor() redact.Redactor {
	if c.trace != nil {
		return c.trace.hide
	}
	return redact.New(c.secrets[:]...)
}

// shown is a server's text as it may be shown.
func (c *Conn) shown(text []byte) string { return shown(c.redactor(), text) }

func shown(r redact.Redactor, text []byte) string {
	return cleanText([]byte(r.Hide(string(text[:min(len(text), redact.Most)]))))
}

// shownCode is a response code as it may be shown. A known one, which is decided by, says
// nothing of anybody's password.
func shownCode(r redact.Redactor, code imap.ResponseCode) imap.ResponseCode {
	if slices.Contains(knownCodes, string(code)) {
		return code
	}
	return imap.ResponseCode(r.Hide(string(code)))
}

// knownCodes are those of RFC 3501, 4469, 5530, 7162 and 9738, and what providers add.
var knownCodes = strings.Fields(`ALERT ALREADYEXISTS AUTH AUTHENTICATIONFAILED AUTHORIZATIONFAILED BADCHARSET CANNOT CLIENTBUG
	CLOSED CONTACTADMIN CORRUPTION EXPIRED EXPUNGEISSUED HASCHILDREN INPROGRESS INUSE LIMIT MESSAGELIMIT MODIFIED NOMODSEQ
	NONEXISTENT NOPERM OVERQUOTA PARSE PRIVACYREQUIRED READ-ONLY SERVERBUG THROTTLED TOOBIG TRYCREATE UNAVAILABLE
	UNKNOWN-CTE USEATTR WEBALERT`)

// refused makes an *Error of a reply that is not OK.
func (c *Conn) refused(s *status, verb string) *Error {
	r := c.redactor()
	e := &Error{
		Stage: c.stage, Command: verb, Status: s.typ,
		Code: shownCode(r, s.code), CodeText: shown(r, s.args), Text: shown(r, s.text),
	}
	if said := cleanText(s.text); said != e.Text {
		e.Said = secret.New(said)
	}
	switch {
	case s.typ == imap.StatusResponseTypeBye:
		e.Kind = Bye
	case c.stage == StageLogin:
		e.Kind = Auth
	case s.typ == imap.StatusResponseTypeBad:
		e.Kind = Bad
	default:
		e.Kind = No
	}
	return e
}

// Capabilities are those of Caps, as List has them, as they may be shown.
func (c *Conn) Capabilities() []string { return Caps{c.redactor().Hide(c.caps.list)}.List() }
