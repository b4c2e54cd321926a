package imapsync

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// frames follows the bytes of a server closely enough to bound them and to read the
// first words of each response, in the order of the wire. It sees quotes, literals
// and parentheses exactly as go-imap's decoder does: wherever the two could disagree
// (a response code that is not closed on its line), it ends the connection, because a
// server that hides parentheses from it could overflow the decoder's stack.
type frames struct {
	lim    limits
	handle func(response)

	literal int64 // bytes left of the present literal
	read    int64 // literal bytes so far, for the minimum rate

	kind    responseKind
	first   response // as of decide
	head    []byte   // beginning of the response, ≤ maxHead; of data only its first words
	size    int      // bytes of the response outside literals
	depth   int
	quoted  bool
	escaped bool
	closed  bool // a status line had a ']'
	paren   bool // the response had a '(' before any ')' closed it
	brace   braceState
	number  int64 // of {number}
}

const maxHead = 2048 // enough for every status text that is shown

type responseKind uint8

const (
	kindUnknown  responseKind = iota // head not read yet
	kindData                         // untagged data
	kindStatus                       // untagged OK, NO, BAD, BYE, PREAUTH
	kindTagged                       // reply to a command
	kindContinue                     // +
)

type braceState uint8

const (
	braceNone braceState = iota
	braceOpen
	braceDigits
	braceClosed
)

var (
	errTooLong  = errors.New("response line is too long")
	errTooDeep  = errors.New("parentheses are nested too deep")
	errLiteral  = errors.New("literal is too large")
	errUnclosed = errors.New("response code is not closed")
	errCapParen = errors.New("parenthesis in a capability list")
	errNoType   = errors.New("response has no type")
)

// response is what frames says of each complete response.
type response struct {
	kind responseKind
	num  uint32 // of "* n EXISTS"; valid with hasNum
	has  bool
	word string // type of a response, upper case: EXISTS, OK, BYE, …
	rest string // what follows on the line of a status, tagged reply or continuation, cut at maxHead
}

// feed takes the next bytes. After an error it must not be called again.
func (f *frames) feed(p []byte) error {
	for len(p) > 0 {
		if f.literal > 0 {
			n := min(int64(len(p)), f.literal)
			f.literal -= n
			f.read += n
			p = p[n:]
			continue
		}
		c := p[0]
		p = p[1:]
		if err := f.byte(c); err != nil {
			return err
		}
	}
	return nil
}

func (f *frames) byte(c byte) error {
	f.size++
	if f.size > f.lim.line {
		return errTooLong
	}
	if f.kind != kindData && len(f.head) < maxHead && c != '\n' {
		f.head = append(f.head, c)
	}
	if f.quoted {
		switch {
		case f.escaped:
			f.escaped = false
		case c == '\\':
			f.escaped = true
		case c == '"':
			f.quoted = false
		}
		return nil
	}
	if c == '\n' {
		return f.endOfLine()
	}
	if f.kind == kindUnknown {
		switch c {
		case '"', '(', ')', '{', '[':
			if err := f.decide(); err != nil {
				return err
			}
		default:
			if len(f.head) == maxHead {
				if err := f.decide(); err != nil {
					return err
				}
			}
			return nil
		}
	}
	if f.kind != kindData {
		switch c {
		case ']':
			f.closed = true
		case '(':
			f.paren = true
		}
		return nil
	}
	f.brace = f.brace.next(c)
	switch c {
	case '"':
		f.quoted = true
	case '(':
		f.paren = true
		if f.depth++; f.depth > f.lim.depth {
			return errTooDeep
		}
	case ')':
		f.depth = max(0, f.depth-1)
	}
	switch f.brace {
	case braceOpen:
		f.number = 0
	case braceDigits:
		if f.number = f.number*10 + int64(c-'0'); f.number > f.lim.literal {
			// Not yet known to be a literal: a brace in an atom is no valid data either.
			return errLiteral
		}
	}
	return nil
}

// next follows `{` digits `}` [SP] [CR] up to the end of a line.
func (b braceState) next(c byte) braceState {
	switch {
	case c == '{':
		return braceOpen
	case c >= '0' && c <= '9' && (b == braceOpen || b == braceDigits):
		return braceDigits
	case c == '}' && b == braceDigits:
		return braceClosed
	case (c == '\r' || c == ' ') && b == braceClosed:
		return braceClosed
	}
	return braceNone
}

func (f *frames) endOfLine() error {
	if f.kind == kindUnknown {
		if err := f.decide(); err != nil {
			return err
		}
	}
	if f.kind == kindData && f.brace == braceClosed {
		f.literal, f.brace = f.number, braceNone
		return nil // the response goes on behind the literal
	}
	r := f.first
	if f.kind != kindData {
		r = parseHead(f.kind, f.head)
	}
	switch {
	case f.kind == kindStatus || f.kind == kindTagged:
		if strings.HasPrefix(r.rest, "[") && !f.closed {
			return errUnclosed
		}
		// go-imap's capability reader never ends at a parenthesis.
		if f.paren && len(r.rest) > 11 && strings.EqualFold(r.rest[:11], "[CAPABILITY") {
			return errCapParen
		}
	case f.paren && (r.word == "CAPABILITY" || r.word == "ENABLED"):
		return errCapParen
	}
	f.handle(r)
	head := f.head[:0]
	if cap(head) > 4*maxHead {
		head = nil
	}
	*f = frames{lim: f.lim, handle: f.handle, read: f.read, head: head}
	return nil
}

// decide says what the response is, from its head.
func (f *frames) decide() error {
	switch r := parseHead(kindUnknown, f.head); {
	case r.kind != kindUnknown:
		f.kind, f.first = r.kind, r
		f.first.rest = ""
	case len(bytes.TrimSpace(f.head)) == 0:
		f.kind = kindData // an empty line: the decoder's business
	default:
		return fmt.Errorf("%w: %q", errNoType, f.head[:min(len(f.head), 40)])
	}
	return nil
}

// parseHead reads the first words of a response: tag, number, type.
func parseHead(kind responseKind, head []byte) response {
	line := strings.TrimRight(string(head), "\r\n")
	if strings.HasPrefix(line, "+") {
		return response{kind: kindContinue, rest: strings.TrimPrefix(line[1:], " ")}
	}
	tag, rest := cutWord(line)
	word, rest := cutWord(rest)
	r := response{kind: kind}
	if tag != "*" {
		if tag == "" || word == "" {
			return response{kind: kind, rest: rest}
		}
		r.kind, r.word, r.rest = kindTagged, strings.ToUpper(word), rest
		return r
	}
	if word != "" && word[0] >= '0' && word[0] <= '9' {
		n, err := strconv.ParseUint(word, 10, 32)
		r.num, r.has = uint32(n), err == nil
		word, rest = cutWord(rest)
	}
	if word == "" {
		return response{kind: kind, rest: rest}
	}
	r.kind, r.word, r.rest = kindData, strings.ToUpper(word), rest
	switch r.word {
	case "OK", "NO", "BAD", "BYE", "PREAUTH":
		r.kind = kindStatus
	}
	return r
}

// cutWord splits at the first space; a parenthesis, bracket, brace or quote ends a word too.
func cutWord(s string) (word, rest string) {
	i := strings.IndexAny(s, " ([{\"")
	if i < 0 {
		return s, ""
	}
	return s[:i], strings.TrimPrefix(s[i:], " ")
}

// statusText splits the rest of a status response into code, its arguments and text.
func statusText(rest string) (code, args, text string) {
	if strings.HasPrefix(rest, "[") {
		if in, after, ok := strings.Cut(rest[1:], "]"); ok {
			code, args, _ = strings.Cut(in, " ")
			return strings.ToUpper(code), args, cleanText(after)
		}
	}
	return "", "", cleanText(rest)
}

// cleanText makes a server's text fit to be shown: UTF-8, no control characters, ≤ 1 KiB.
func cleanText(s string) string {
	const maxText = 1 << 10
	s = strings.ToValidUTF8(s[:min(len(s), maxText)], "\uFFFD")
	s = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}, s)
	return strings.TrimSpace(s)
}
