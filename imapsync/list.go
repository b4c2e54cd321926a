package imapsync

import (
	"context"
	"slices"
	"strings"

	"github.com/emersion/go-imap/v2"

	"github.com/postrider/postrider/imapsync/wire"
)

// Folders implements Session.
func (s *client) Folders(ctx context.Context) (Listing, error) {
	o, extended := s.listOptions()
	all, whole, err := s.list(ctx, "*", o)
	if extended && usable(err) {
		// QUIRK(courier): a server may refuse RETURN options that it does not know.
		s.plainList, s.info.ListStatus = true, false
		all, whole, err = s.list(ctx, "*", wire.ListOptions{})
	}
	if err != nil {
		return Listing{}, err
	}
	if !slices.ContainsFunc(all, func(l Listed) bool { return l.Raw == "INBOX" }) {
		// sync.md §4.7: a list without INBOX is believed only after asking for it.
		inbox, _, err := s.list(ctx, "INBOX", wire.ListOptions{})
		if err != nil && !usable(err) {
			return Listing{}, err
		}
		all = append(all, inbox...)
	}
	if !s.info.SpecialUse && !s.noXList && s.c.Caps().Has("XLIST") {
		if all, err = s.xlist(ctx, all); err != nil {
			return Listing{}, err
		}
	}
	return Listing{Folders: assignRoles(unique(all), s.roles, s.profile.Roles), Whole: whole}, nil
}

// listOptions are the RETURN options that are advertised.
func (s *client) listOptions() (o wire.ListOptions, extended bool) {
	listExtended := s.c.Caps().Has(imap.CapListExtended)
	if s.plainList || !listExtended && !s.info.ListStatus {
		return o, false
	}
	o.SpecialUse, o.Subscribed = s.info.SpecialUse, listExtended
	if s.info.ListStatus {
		o.Status = s.statusItems()
	}
	return o, o.SpecialUse || o.Subscribed || len(o.Status) > 0
}

// list asks for folders, with their numbers where they are asked for, and says whether
// all of the answer could be read.
func (s *client) list(ctx context.Context, pattern string, o wire.ListOptions) ([]Listed, bool, error) {
	data, statuses, res, err := s.c.List(ctx, "", pattern, o)
	if err != nil {
		return nil, false, failure(err)
	}
	told := make(map[string]*wire.Status, len(statuses))
	for i := range statuses {
		told[inboxed(statuses[i].Raw)] = &statuses[i]
	}
	out := make([]Listed, 0, len(data))
	for i := range data {
		l := listedOf(&data[i])
		if st := told[l.Raw]; st != nil {
			status := statusOf(st)
			l.Status = &status
			if l.MailboxID == "" {
				l.MailboxID = st.MailboxID
			}
		}
		out = append(out, l)
	}
	return out, res.Damaged == 0, nil
}

// xlistAttrs are XLIST's words for RFC 6154's.
var xlistAttrs = map[string]imap.MailboxAttr{
	`\allmail`: imap.MailboxAttrAll, `\spam`: imap.MailboxAttrJunk, `\starred`: imap.MailboxAttrFlagged, `\important`: imap.MailboxAttrImportant,
}

// xlist adds the special uses of a server that has them from before RFC 6154.
func (s *client) xlist(ctx context.Context, all []Listed) ([]Listed, error) {
	data, _, err := s.c.XList(ctx, "", "*")
	if err = failure(err); usable(err) {
		s.noXList = true
		return all, nil
	}
	if err != nil {
		return nil, err
	}
	for i := range data {
		for j, a := range data[i].Attrs {
			if std, ok := xlistAttrs[strings.ToLower(string(a))]; ok {
				data[i].Attrs[j] = std
			}
		}
		l := listedOf(&data[i])
		if k := slices.IndexFunc(all, func(x Listed) bool { return x.Raw == l.Raw }); k >= 0 {
			merge(&all[k], l) // XLIST names no folder that LIST did not
		}
	}
	return all, nil
}

// unique joins entries of one name.
func unique(all []Listed) []Listed {
	out := all[:0]
	at := make(map[string]int, len(all))
	for _, l := range all {
		if i, ok := at[l.Raw]; ok {
			merge(&out[i], l)
			continue
		}
		at[l.Raw] = len(out)
		out = append(out, l)
	}
	return out
}

// inboxed spells INBOX, the only name whose case means nothing (RFC 3501 section 5.1).
func inboxed(raw string) string {
	if strings.EqualFold(raw, "INBOX") {
		return "INBOX"
	}
	return raw
}

func listedOf(d *wire.Listed) Listed {
	l := Listed{Raw: inboxed(d.Raw), Delimiter: d.Delimiter, MailboxID: d.MailboxID, Selectable: true}
	l.Path = wire.DecodeName(l.Raw)
	for _, a := range d.Attrs {
		l.Attrs = append(l.Attrs, string(a))
		switch a {
		case imap.MailboxAttrNoSelect, imap.MailboxAttrNonExistent:
			l.Selectable = false
		case imap.MailboxAttrSubscribed:
			l.Subscribed = true
		}
	}
	if strings.ContainsAny(l.Raw, "\r\n\x00") {
		l.Selectable = false // cannot be sent
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
