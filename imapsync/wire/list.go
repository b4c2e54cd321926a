package wire

import (
	"context"
	"strings"

	"github.com/emersion/go-imap/v2"
)

// Listed is one LIST response.
type Listed struct {
	Raw       string // the bytes as they came: what addresses the folder
	Delimiter string // "" = flat
	Attrs     []imap.MailboxAttr
	MailboxID string
}

// Name is Raw fit to be shown.
func (l *Listed) Name() string { return DecodeName(l.Raw) }

// ListOptions are what LIST is asked to RETURN; each MUST be advertised.
type ListOptions struct {
	SpecialUse bool
	Subscribed bool
	Status     []StatusItem // with LIST-STATUS
}

// List asks for folders. The answer is whole or there is an error; Damaged of the result
// counts LIST responses that could not be read. Statuses come in the order of the wire
// and may lack folders.
func (c *Conn) List(ctx context.Context, ref, pattern string, o ListOptions) ([]Listed, []Status, Result, error) {
	k := c.command("LIST").str(ref)
	k.astring(pattern)
	var ret []string
	if o.SpecialUse {
		ret = append(ret, "SPECIAL-USE")
	}
	if o.Subscribed {
		ret = append(ret, "SUBSCRIBED")
	}
	if len(o.Status) > 0 {
		ret = append(ret, "STATUS "+statusItems(o.Status))
	}
	if len(ret) > 0 {
		k.arg("RETURN (" + strings.Join(ret, " ") + ")")
	}
	return k.list(ctx, "LIST")
}

// XList is LIST with special use, as some servers had it before RFC 6154.
func (c *Conn) XList(ctx context.Context, ref, pattern string) ([]Listed, Result, error) {
	k := c.command("XLIST").str(ref)
	k.astring(pattern)
	listed, _, res, err := k.list(ctx, "XLIST")
	return listed, res, err
}

func (k *command) list(ctx context.Context, word string) ([]Listed, []Status, Result, error) {
	c := k.c
	k.first = c.lim.FirstSlow
	var listed []Listed
	var statuses []Status
	size := 0
	k.on = func(r *response) bool {
		size += len(r.b)
		room := size <= c.lim.Listing
		switch {
		case r.kind == rData && (r.is(word) || r.is("LIST")):
			l, ok := c.parseList(r)
			if ok && l.Raw == "" {
				_ = c.skip(word) // no folder has that name, so none is missing for it
				return true
			}
			if !ok || !room || len(listed) >= c.lim.Folders {
				k.damaged++
				_ = c.skip(word)
				return true
			}
			listed = append(listed, l)
			return true
		case r.is("STATUS"):
			if st, ok := parseStatus(r); ok && room && len(statuses) < c.lim.Folders {
				statuses = append(statuses, st)
			} else {
				_ = c.skip("STATUS") // a status that did not come is asked for alone
			}
			return true
		}
		return false
	}
	res, err := k.run(ctx)
	return listed, statuses, res, err
}

// parseList reads `(attrs) delimiter name [(extended)]`. An empty name is no folder: what
// is done with it is the caller's.
func (c *Conn) parseList(r *response) (Listed, bool) {
	var l Listed
	if r.cut {
		return l, false
	}
	s := r.scan()
	switch t, _ := s.next(); t {
	case tOpen:
		for n := 0; ; n++ {
			t, v := s.next()
			if t == tClose {
				break
			}
			if t == tEnd || t == tBad || n > c.lim.Flags {
				return l, false
			}
			if t == tAtom || t == tString {
				l.Attrs = appendAttrs(l.Attrs, v)
			}
		}
	case tNil:
	default:
		return l, false
	}
	switch t, v := s.next(); t {
	case tNil:
	case tString, tAtom:
		l.Delimiter = string(v)
	default:
		return l, false
	}
	s.space()
	begin := s.i
	t, v := s.next()
	switch t {
	case tNil: // a folder called nil
		v = s.b[begin:s.i]
	case tString, tAtom:
	default:
		return l, false
	}
	if len(v) > 8<<10 {
		return l, false
	}
	l.Raw = string(v)
	l.extended(&s)
	return l, true
}

// extended reads RFC 5258's items for MAILBOXID; anything else there is passed over.
func (l *Listed) extended(s *scanner) {
	if !s.open() {
		return
	}
	for {
		t, v := s.next()
		if t != tAtom && t != tString {
			return
		}
		if foldEqual(v, "MAILBOXID") && s.open() {
			if t, id := s.next(); t == tAtom || t == tString {
				l.MailboxID = string(id)
			}
			if !s.rest() {
				return
			}
			continue
		}
		if !s.skip() {
			return
		}
	}
}

// appendAttrs adds an attribute, or several that are glued (`\A\B`).
func appendAttrs(attrs []imap.MailboxAttr, v []byte) []imap.MailboxAttr {
	for part := range strings.SplitSeq(string(v), `\`) {
		if part != "" && len(part) <= 64 {
			attrs = append(attrs, canonicalAttr(`\`+part))
		}
	}
	return attrs
}

var knownAttrs = []imap.MailboxAttr{
	imap.MailboxAttrNonExistent, imap.MailboxAttrNoInferiors, imap.MailboxAttrNoSelect, imap.MailboxAttrHasChildren,
	imap.MailboxAttrHasNoChildren, imap.MailboxAttrMarked, imap.MailboxAttrUnmarked, imap.MailboxAttrSubscribed, imap.MailboxAttrRemote,
	imap.MailboxAttrAll, imap.MailboxAttrArchive, imap.MailboxAttrDrafts, imap.MailboxAttrFlagged, imap.MailboxAttrJunk,
	imap.MailboxAttrSent, imap.MailboxAttrTrash, imap.MailboxAttrImportant,
}

func canonicalAttr(s string) imap.MailboxAttr {
	for _, a := range knownAttrs {
		if strings.EqualFold(string(a), s) {
			return a
		}
	}
	return imap.MailboxAttr(strings.ToValidUTF8(s, "\uFFFD"))
}
