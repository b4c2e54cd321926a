package imapsync

import (
	"cmp"
	"context"
	"io"
	"slices"
	"strings"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapclient"

	"github.com/postrider/postrider/events"
)

// headerFields are the header fields fetched beside ENVELOPE: what ENVELOPE has no
// room for, and the ids, which go-imap drops from it when they are odd.
var headerFields = []string{"REFERENCES", "IN-REPLY-TO", "MESSAGE-ID", "LIST-ID", "LIST-UNSUBSCRIBE"}

var identityFields = []string{"MESSAGE-ID"}

// maxReferences is how many references of a message are kept, the last ones.
const maxReferences = 50

// fetched is one message as the client streams it, with what came of it.
type fetched struct {
	imapclient.FetchMessageBuffer
	hasFlags  bool
	hasSize   bool
	hasHeader bool
	header    []byte
}

// Messages implements Session.
func (s *client) Messages(ctx context.Context, set imap.UIDSet) ([]Message, error) {
	got, err := s.fetch(ctx, set, &imap.FetchOptions{
		UID: true, Flags: true, InternalDate: true, RFC822Size: true, Envelope: true,
		BodyStructure: &imap.FetchItemBodyStructure{Extended: true},
		BodySection:   []*imap.FetchItemBodySection{{Specifier: imap.PartSpecifierHeader, HeaderFields: headerFields, Peek: true}},
	})
	out := make([]Message, 0, len(got))
	for i := range got {
		out = append(out, messageOf(&got[i]))
	}
	return out, err
}

// Flags implements Session.
func (s *client) Flags(ctx context.Context, set imap.UIDSet, changedSince uint64) ([]FlagsOf, error) {
	got, err := s.fetch(ctx, set, &imap.FetchOptions{UID: true, Flags: true, ChangedSince: changedSince})
	out := make([]FlagsOf, 0, len(got))
	for i := range got {
		f := &got[i]
		out = append(out, FlagsOf{UID: uint32(f.UID), Flags: flagsOf(f.Flags), Known: f.hasFlags})
	}
	return out, err
}

// Identities implements Session.
func (s *client) Identities(ctx context.Context, set imap.UIDSet) ([]IdentityOf, error) {
	got, err := s.fetch(ctx, set, &imap.FetchOptions{
		UID: true, Flags: true, InternalDate: true, RFC822Size: true,
		BodySection: []*imap.FetchItemBodySection{{Specifier: imap.PartSpecifierHeader, HeaderFields: identityFields, Peek: true}},
	})
	out := make([]IdentityOf, 0, len(got))
	for i := range got {
		f := &got[i]
		out = append(out, IdentityOf{
			UID: uint32(f.UID), Flags: flagsOf(f.Flags), FlagsKnown: f.hasFlags,
			InternalDate: f.InternalDate, Size: max(0, f.RFC822Size),
			MessageID: firstID(parseHeader(f.header)["message-id"]),
		})
	}
	return out, err
}

// fetch runs UID FETCH to its end and returns the messages of set, by UID, each once
// (the client keeps the first answer for a UID; a second one is a hint). What came is
// returned beside an error that leaves the connection usable.
func (s *client) fetch(ctx context.Context, set imap.UIDSet, opts *imap.FetchOptions) ([]fetched, error) {
	if len(set) == 0 || set.Dynamic() || set.Contains(0) {
		return nil, &Error{Kind: ErrConfig, Stage: StageCommand, Command: "UID FETCH", Text: "UID set is empty or open"}
	}
	limit := s.c.lim.header
	got, err := do(ctx, s, "UID FETCH", s.normal(), func() ([]fetched, error) {
		cmd := s.imap.Fetch(set, opts)
		var out []fetched
		for msg := cmd.Next(); msg != nil; msg = cmd.Next() {
			f, err := collect(msg, limit)
			if err != nil {
				return nil, err // the connection is gone; nothing more may be asked of cmd
			}
			if f.UID != 0 {
				out = append(out, f)
			}
		}
		return out, cmd.Close()
	})
	if err != nil && !usable(err) {
		return nil, err // the last message may be cut
	}
	slices.SortFunc(got, func(a, b fetched) int { return cmp.Compare(a.UID, b.UID) })
	return got, err
}

// collect reads one message to its end: the client goes on only behind it. An error
// means that the connection ended in a literal.
func collect(msg *imapclient.FetchMessageData, limit int64) (fetched, error) {
	var f fetched
	for item := msg.Next(); item != nil; item = msg.Next() {
		switch item := item.(type) {
		case imapclient.FetchItemDataUID:
			f.UID = item.UID
		case imapclient.FetchItemDataFlags:
			f.Flags, f.hasFlags = item.Flags, true
		case imapclient.FetchItemDataEnvelope:
			f.Envelope = item.Envelope
		case imapclient.FetchItemDataInternalDate:
			f.InternalDate = item.Time
		case imapclient.FetchItemDataRFC822Size:
			f.RFC822Size, f.hasSize = item.Size, true
		case imapclient.FetchItemDataBodyStructure:
			f.BodyStructure = item.BodyStructure
		case imapclient.FetchItemDataBodySection:
			if item.Literal == nil {
				continue // NIL
			}
			b, err := readLiteral(item.Literal, limit)
			if err != nil {
				return f, err
			}
			// One section is asked for, so the first that comes is it, however its name
			// is echoed (row 50).
			if !f.hasHeader {
				f.header, f.hasHeader = b, true
			}
		}
	}
	return f, nil
}

// readLiteral reads a literal to its end and keeps the first bytes. A literal that is
// cut must not be read again: the client's reader has gone on by then.
func readLiteral(l imap.LiteralReader, limit int64) ([]byte, error) {
	kept, err := io.ReadAll(io.LimitReader(l, limit))
	if err != nil {
		return nil, err
	}
	n := int64(len(kept))
	if n == limit {
		rest, err := io.Copy(io.Discard, l)
		if err != nil {
			return nil, err
		}
		n += rest
	}
	if n < l.Size() {
		return nil, io.ErrUnexpectedEOF
	}
	return kept, nil
}

// messageOf makes the value a worker sees.
func messageOf(f *fetched) Message {
	h := parseHeader(f.header)
	m := Message{
		UID: uint32(f.UID), Flags: flagsOf(f.Flags), FlagsKnown: f.hasFlags,
		InternalDate: f.InternalDate, Size: max(0, f.RFC822Size),
		Structure: f.BodyStructure, Header: h,
		MessageID:  firstID(h["message-id"]),
		InReplyTo:  firstID(h["in-reply-to"]),
		References: allIDs(h["references"]),
	}
	damaged := func(bad bool, name string) {
		if bad {
			m.Damaged = append(m.Damaged, name)
		}
	}
	damaged(!f.hasFlags, "flags")
	damaged(f.InternalDate.IsZero(), "internalDate")
	damaged(!f.hasSize, "size")
	damaged(f.Envelope == nil, "envelope")
	damaged(f.BodyStructure == nil, "bodyStructure")
	damaged(!f.hasHeader, "headers")
	if e := f.Envelope; e != nil {
		m.Date, m.Subject = e.Date, cleanUTF8(e.Subject)
		m.From, m.Sender, m.ReplyTo = addresses(e.From), addresses(e.Sender), addresses(e.ReplyTo)
		m.To, m.Cc, m.Bcc = addresses(e.To), addresses(e.Cc), addresses(e.Bcc)
		if m.MessageID == "" && e.MessageID != "" {
			m.MessageID = "<" + e.MessageID + ">"
		}
		if m.InReplyTo == "" && len(e.InReplyTo) > 0 {
			m.InReplyTo = "<" + e.InReplyTo[0] + ">"
		}
	}
	return m
}

// flagsOf sorts flags and drops \Recent, which is the session's and not the message's.
func flagsOf(in []imap.Flag) []string {
	out := make([]string, 0, len(in))
	for _, f := range in {
		if !strings.EqualFold(string(f), `\Recent`) {
			out = append(out, string(f))
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// addresses flattens groups and keeps text that is no address as a name.
func addresses(in []imap.Address) []events.Address {
	var out []events.Address
	for i := range in {
		a := &in[i]
		switch {
		case a.IsGroupStart(), a.IsGroupEnd() && a.Name == "":
			continue
		case a.Mailbox == "" || a.Host == "" || a.Host == "MISSING_DOMAIN" || a.Host == ".MISSING-HOST-NAME.":
			// QUIRK(dovecot, uw): text that is no address comes with a host that says so.
			name := a.Name
			if name == "" {
				name = a.Mailbox
			}
			out = append(out, events.Address{Name: cleanUTF8(name)})
		default:
			out = append(out, events.Address{Name: cleanUTF8(a.Name), Address: cleanUTF8(a.Mailbox + "@" + a.Host)})
		}
	}
	return out
}

// cleanUTF8 makes decoded header text valid UTF-8 without line ends and NULs.
func cleanUTF8(s string) string {
	s = strings.ToValidUTF8(s, "\uFFFD")
	if !strings.ContainsAny(s, "\r\n\x00") {
		return s
	}
	return strings.NewReplacer("\r", "", "\n", "", "\x00", "").Replace(s)
}

// parseHeader reads header lines, tolerant line by line: a line that is none is skipped.
func parseHeader(block []byte) map[string][]string {
	if len(block) == 0 {
		return nil
	}
	h := make(map[string][]string)
	last := ""
	for line := range strings.Lines(string(block)) {
		line = strings.TrimRight(line, "\r\n")
		if line == "" {
			last = ""
			continue
		}
		if line[0] == ' ' || line[0] == '\t' {
			if last != "" {
				v := h[last]
				v[len(v)-1] = strings.TrimSpace(v[len(v)-1] + " " + strings.TrimSpace(line))
			}
			continue
		}
		name, value, ok := strings.Cut(line, ":")
		name = strings.ToLower(strings.TrimSpace(name))
		if last = name; !ok || name == "" {
			last = ""
			continue
		}
		h[name] = append(h[name], cleanUTF8(strings.TrimSpace(value)))
	}
	return h
}

// firstID is the first message id of a field, with angle brackets.
func firstID(values []string) string {
	for _, v := range values {
		if ids := idsIn(v); len(ids) > 0 {
			return ids[0]
		}
	}
	return ""
}

// allIDs are all message ids of a field, the last maxReferences.
func allIDs(values []string) []string {
	var out []string
	for _, v := range values {
		out = append(out, idsIn(v)...)
	}
	return out[max(0, len(out)-maxReferences):]
}

// idsIn reads message ids as they really are: everything in angle brackets, else the
// words of a value that has none.
func idsIn(v string) []string {
	var out []string
	if !strings.Contains(v, "<") {
		for w := range strings.FieldsSeq(v) {
			out = append(out, "<"+strings.Trim(w, ">")+">")
		}
		return out
	}
	for {
		_, rest, ok := strings.Cut(v, "<")
		if !ok {
			return out
		}
		id, after, ok := strings.Cut(rest, ">")
		if !ok {
			return out
		}
		if id = strings.TrimSpace(id); id != "" {
			out = append(out, "<"+id+">")
		}
		v = after
	}
}

// usable says whether the connection goes on after err.
func usable(err error) bool {
	e, ok := err.(*Error)
	return ok && e.Usable()
}
