package wire

import (
	"strings"
	"unicode/utf8"

	"github.com/emersion/go-imap/v2"
)

// words interns flags: the bytes of a flag list are looked up as they came, so that a
// listing of a million messages makes a string per flag, not per message. They are
// forgotten with the folder.
type words struct {
	flags map[string]imap.Flag
	sets  map[string][]imap.Flag
}

// maxFlagSets bounds how many different flag lists are remembered.
const maxFlagSets = 512

func (w *words) reset() { *w = words{} }

var systemFlags = []imap.Flag{imap.FlagSeen, imap.FlagAnswered, imap.FlagFlagged, imap.FlagDeleted, imap.FlagDraft, `\*`}

// flag makes a flag of its bytes; "" where it is none. false: too many different ones.
func (w *words) flag(b []byte, most int) (imap.Flag, bool) {
	if f, ok := w.flags[string(b)]; ok {
		return f, true
	}
	if len(b) == 0 || len(b) > 256 {
		return "", true
	}
	var f imap.Flag
	if b[0] == '\\' {
		for _, s := range systemFlags {
			if strings.EqualFold(string(s), string(b)) {
				f = s
			}
		}
		if f == "" && strings.EqualFold(string(b), `\Recent`) {
			f = imap.Flag(recent)
		}
	}
	if f == "" {
		s := string(b)
		if !utf8.ValidString(s) {
			s = strings.ToValidUTF8(s, "\uFFFD")
		}
		f = imap.Flag(s)
	}
	if w.flags == nil {
		w.flags = map[string]imap.Flag{}
	}
	if len(w.flags) >= most {
		return "", false
	}
	w.flags[string(b)] = f
	return f, true
}

// recent is dropped wherever it comes: it is the session's and not the message's.
const recent = `\Recent`

// flagSet is the list whose inside is b, where it was seen before.
func (w *words) flagSet(b []byte) ([]imap.Flag, bool) {
	set, ok := w.sets[string(b)]
	return set, ok
}

// keepSet remembers a list by its inside.
func (w *words) keepSet(b []byte, set []imap.Flag) {
	if len(w.sets) >= maxFlagSets || len(b) > 512 {
		return
	}
	if w.sets == nil {
		w.sets = map[string][]imap.Flag{}
	}
	w.sets[string(b)] = set
}

// parseFlags reads a list of flags behind its parenthesis. A nested list in it is
// passed over; what has no end, or is too much, gives a reason.
func (c *Conn) parseFlags(s *scanner) (flags []imap.Flag, why string) {
	begin := s.i
	for i := begin; i < len(s.b); i++ {
		switch s.b[i] {
		case '(', '"', '{', '~':
			return c.parseOddFlags(s)
		case ')':
			if set, ok := c.words.flagSet(s.b[begin:i]); ok {
				s.i = i + 1
				return set, ""
			}
			if flags, why = c.parseOddFlags(s); why == "" {
				c.words.keepSet(s.b[begin:i], flags)
			}
			return flags, why
		}
	}
	return nil, whyUnclosed
}

func (c *Conn) parseOddFlags(s *scanner) ([]imap.Flag, string) {
	flags := []imap.Flag{}
	for n := 0; ; n++ {
		at := s.i
		t, v := s.next()
		switch t {
		case tClose:
			return flags, ""
		case tEnd, tBad:
			return nil, whyUnclosed
		case tOpen:
			if s.seek(at); !s.skip() {
				return nil, whyUnclosed
			}
			continue
		case tNil:
			continue
		}
		if n >= c.lim.Flags {
			return nil, whyTooMany
		}
		f, ok := c.words.flag(v, c.lim.Keywords)
		if !ok {
			return nil, whyTooMany
		}
		if f != "" && f != recent {
			flags = append(flags, f)
		}
	}
}

// flagList reads `(flags)` of a FLAGS response or PERMANENTFLAGS; NIL is none.
func (c *Conn) flagList(b []byte) []imap.Flag {
	s := scanner{b: b}
	if !s.open() {
		return nil
	}
	flags, _ := c.parseOddFlags(&s)
	return flags
}
