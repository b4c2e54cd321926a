package wire

import (
	"context"
	"strings"
)

// Cmd is a command for Raw: a verb and arguments, each a string (sent as a quoted string
// or literal), or Verbatim.
type Cmd struct {
	Verb string
	Args []any
}

// Verbatim is an argument that is sent as it is.
type Verbatim string

// Token is a value of a response: a string, or a list.
type Token struct {
	Text   string
	List   []Token // not nil for a list
	Nil    bool
	Quoted bool // a quoted string or literal, not an atom
}

// Response is an untagged response as tokens. Text is that of a status response.
type Response struct {
	Num    uint32
	Name   string // upper case
	Tokens []Token
	Text   string
	Code   string
}

// Raw runs any command; f gets every untagged response, those about the selected folder
// too, which are hints as ever. It MUST NOT change what the connection is (STARTTLS,
// COMPRESS, SELECT, IDLE). An error of f is returned after the answer was read.
func (c *Conn) Raw(ctx context.Context, cmd Cmd, f func(Response) error) (Result, error) {
	k := c.command(cmd.Verb)
	if cmd.Verb == "" || strings.ContainsAny(cmd.Verb, "\r\n\x00\"(){}") {
		k.refuse("command cannot be sent")
	}
	for _, a := range cmd.Args {
		switch a := a.(type) {
		case Verbatim:
			k.arg(string(a))
		case string:
			k.str(a)
		default:
			k.refuse("argument is neither string nor Verbatim")
		}
	}
	var failed error
	k.on = func(r *response) bool {
		if failed == nil && f != nil {
			failed = f(c.tokens(r))
		}
		switch {
		case r.kind == rStatus, r.is("EXISTS"), r.is("EXPUNGE"), r.is("VANISHED"), r.is("FETCH"), r.is("CAPABILITY"):
			return false
		}
		return true
	}
	res, err := k.run(ctx)
	if err == nil {
		err = failed
	}
	return res, err
}

// tokens reads a response as it stands; what has no end is left out.
func (c *Conn) tokens(r *response) Response {
	out := Response{Num: r.num, Name: upperString(r.name)}
	if r.kind == rStatus {
		out.Code, out.Text = string(shownCode(c.redactor(), r.status.code)), c.shown(r.status.text)
		return out
	}
	s := r.scan()
	n := 0
	for {
		t, ok := c.tokenTree(&s, 0, &n)
		if !ok {
			return out
		}
		out.Tokens = append(out.Tokens, t)
	}
}

func (c *Conn) tokenTree(s *scanner, depth int, n *int) (Token, bool) {
	if *n++; *n > c.lim.List || depth > c.lim.Depth {
		return Token{}, false
	}
	switch t, v := s.next(); t {
	case tString:
		return Token{Text: string(v), Quoted: true}, true
	case tAtom:
		return Token{Text: string(v)}, true
	case tNil:
		return Token{Nil: true}, true
	case tOpen:
		list := []Token{}
		for s.peek() != ')' {
			item, ok := c.tokenTree(s, depth+1, n)
			if !ok {
				return Token{}, false
			}
			list = append(list, item)
		}
		s.i++
		return Token{List: list}, true
	}
	return Token{}, false
}
