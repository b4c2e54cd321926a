package imapsync

import (
	"context"
	"errors"
	"slices"
	"strings"

	"github.com/emersion/go-imap/v2"
)

// Folders implements Session.
func (s *client) Folders(ctx context.Context) ([]Listed, error) {
	opts := s.listOptions()
	data, err := s.list(ctx, "*", opts)
	if e, ok := errors.AsType[*Error](err); ok && e.Usable() && opts != nil {
		// QUIRK(courier): a server may refuse RETURN options that it does not know.
		s.plainList = true
		data, err = s.list(ctx, "*", nil)
	}
	if err != nil {
		return nil, err
	}
	if !slices.ContainsFunc(data, func(d *imap.ListData) bool { return strings.EqualFold(d.Mailbox, "INBOX") }) {
		// sync.md §4.7: a list without INBOX is believed only after asking for it.
		inbox, err := s.list(ctx, "INBOX", nil)
		if err != nil && !usable(err) {
			return nil, err
		}
		data = append(data, inbox...)
	}
	return assignRoles(listed(data), s.roles), nil
}

// listOptions are the RETURN options that are advertised; nil = plain LIST.
func (s *client) listOptions() *imap.ListOptions {
	extended := slices.Contains(s.info.Capabilities, "LIST-EXTENDED")
	if s.plainList || !extended && !s.info.ListStatus {
		return nil
	}
	opts := &imap.ListOptions{ReturnSpecialUse: s.info.SpecialUse, ReturnSubscribed: extended}
	if s.info.ListStatus {
		opts.ReturnStatus = s.statusItems()
	}
	return opts
}

func (s *client) list(ctx context.Context, pattern string, opts *imap.ListOptions) ([]*imap.ListData, error) {
	return do(ctx, s, "LIST", s.slow(), func() ([]*imap.ListData, error) {
		return s.imap.List("", pattern, opts).Collect()
	})
}

// listed turns the answer into folders, each name once, the first entry winning and
// later ones adding to it.
func listed(data []*imap.ListData) []Listed {
	out := make([]Listed, 0, len(data))
	at := make(map[string]int, len(data))
	for _, d := range data {
		if d.Mailbox == "" {
			continue // row 52: a folder without a name cannot be addressed
		}
		l := listedOf(d)
		if i, ok := at[l.Raw]; ok {
			merge(&out[i], l)
			continue
		}
		at[l.Raw] = len(out)
		out = append(out, l)
	}
	return out
}

func listedOf(d *imap.ListData) Listed {
	l := Listed{Raw: d.Mailbox, Path: strings.ToValidUTF8(d.Mailbox, "\uFFFD"), Selectable: true}
	if strings.EqualFold(d.Mailbox, "INBOX") {
		l.Raw, l.Path = "INBOX", "INBOX"
	}
	if d.Delim != 0 {
		l.Delimiter = string(d.Delim)
	}
	for _, a := range d.Attrs {
		l.Attrs = append(l.Attrs, string(a))
		switch a {
		case imap.MailboxAttrNoSelect, imap.MailboxAttrNonExistent:
			l.Selectable = false
		case imap.MailboxAttrSubscribed:
			l.Subscribed = true
		}
	}
	if checkName("LIST", l.Raw) != nil {
		l.Selectable = false
	}
	if d.Status != nil {
		st := statusOf(d.Status)
		l.Status = &st
	}
	return l
}

func merge(into *Listed, l Listed) {
	for _, a := range l.Attrs {
		if !slices.Contains(into.Attrs, a) {
			into.Attrs = append(into.Attrs, a)
		}
	}
	into.Selectable = into.Selectable && l.Selectable
	into.Subscribed = into.Subscribed || l.Subscribed
	if into.Status == nil {
		into.Status = l.Status
	}
}
