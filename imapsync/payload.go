package imapsync

import (
	"slices"
	"strings"
	"time"

	"github.com/postrider/postrider/events"
	"github.com/postrider/postrider/internal/message"
	"github.com/postrider/postrider/store"
)

// What one messageNew may hold (events.md section 2); what is beyond is cut, and named.
const (
	maxAddresses   = 1000
	maxAttachments = 500
	maxText        = 16 << 10 // of one string: subject, file name, id
)

// messageNew is the payload of a message's event: a function of what the server says
// and of how it was found.
func messageNew(s site, m *Message, a arrival) events.MessageNew {
	e := events.MessageNew{
		ID: messageID(s.folder.Num, m.UID), UID: m.UID, Path: s.folder.Path,
		EmailID: m.EmailID, ThreadID: m.ThreadID,
		Flags:   m.Flags,
		Labels:  m.Labels,
		Size:    m.Size,
		IsList:  m.IsList(),
		Origin:  originOf(m.InternalDate, a),
		Subject: m.Subject, MessageID: m.MessageID, InReplyTo: m.InReplyTo, References: m.References,
		Category:          a.category,
		MessageSpecialUse: roleOf(m, s.folder.SpecialUse),
		Incomplete:        m.Damaged,
		DecodeWarnings:    slices.Clone(m.Warnings),
	}
	if e.Flags == nil {
		e.Flags = []string{}
	}
	e.SeemsLikeNew = seemsLikeNew(e.Origin, s.folder.SpecialUse, m.Labels)
	e.Related = a.related
	if a.waited != nil {
		e.MissingRetries, e.MissingDelay = a.waited.Tries, missingDelay(a.waited.Tries).Milliseconds()
	}
	e.Unseen = m.FlagsKnown && !slices.Contains(m.Flags, `\Seen`)
	e.Flagged = slices.Contains(m.Flags, `\Flagged`)
	e.Answered = slices.Contains(m.Flags, `\Answered`)
	e.Draft = slices.Contains(m.Flags, `\Draft`)
	if !m.InternalDate.IsZero() {
		t := events.TimeOf(m.InternalDate)
		e.InternalDate, e.Date = &t, t
	}
	if !m.Date.IsZero() {
		e.Date = events.TimeOf(m.Date)
	}
	if e.Date.IsZero() {
		e.Date = events.TimeOf(a.found())
	}
	p := payload{site: s, uid: m.UID, e: &e}
	p.text("subject", &e.Subject)
	p.text("messageId", &e.MessageID)
	p.text("inReplyTo", &e.InReplyTo)
	if len(e.References) > 50 {
		e.References = e.References[len(e.References)-50:]
		p.cut("references")
	}
	for i := range e.References {
		p.text("references", &e.References[i])
	}
	from := p.addresses("from", m.From)
	e.From = first(from)
	if len(from) > 1 {
		e.FromList = from
	}
	e.Sender = first(p.addresses("sender", m.Sender))
	e.ReplyToList = p.addresses("replyTo", m.ReplyTo)
	e.ReplyTo = first(e.ReplyToList)
	e.To, e.Cc, e.Bcc = p.addresses("to", m.To), p.addresses("cc", m.Cc), p.addresses("bcc", m.Bcc)
	p.structure(m.Structure)
	if a.content != nil {
		p.fill(a.content)
	}
	return e
}

// fill puts the message's content into its event.
func (p *payload) fill(c *content) {
	e := p.e
	e.Text.Plain, e.Text.HTML, e.Text.WebSafe, e.Text.HasMore = c.text.Plain, c.text.HTML, c.text.WebSafe, c.text.HasMore
	e.Headers, e.Source, e.CalendarEvents = c.headers, c.source, c.calendar
	for i := range e.CalendarEvents {
		e.CalendarEvents[i].Attachment = partID(p.folder.Num, p.uid, e.CalendarEvents[i].Attachment)
	}
	for i, q := range p.content.Attachments[:len(e.Attachments)] {
		e.Attachments[i].Content = c.attached[q.Number]
	}
	e.Truncated = append(e.Truncated, c.truncated...)
	e.Incomplete = append(slices.Clone(e.Incomplete), c.incomplete...)
	for _, w := range c.warnings {
		(*message.Warnings)(&e.DecodeWarnings).Add(w)
	}
}

// found stands in for the date of a message that has none at all: the last look that
// did not show it, which a repeat of the same step knows as well.
func (a arrival) found() time.Time {
	if a.look.IsZero() {
		return time.Unix(0, 0)
	}
	return a.look
}

// payload fills the parts of a messageNew that have bounds.
type payload struct {
	site
	uid     uint32
	e       *events.MessageNew
	content message.Content
}

// cut names a field that does not hold all.
func (p *payload) cut(field string) {
	if !slices.Contains(p.e.Truncated, field) {
		p.e.Truncated = append(p.e.Truncated, field)
	}
}

func (p *payload) text(field string, s *string) {
	*s = strings.ToValidUTF8(strings.ReplaceAll(*s, "\x00", ""), "\uFFFD")
	if len(*s) > maxText {
		*s = strings.ToValidUTF8((*s)[:maxText], "")
		p.cut(field)
	}
}

func (p *payload) addresses(field string, list []events.Address) []events.Address {
	if len(list) == 0 {
		return nil
	}
	if len(list) > maxAddresses {
		list = list[:maxAddresses]
		p.cut(field)
	}
	list = slices.Clone(list)
	for i := range list {
		p.text(field, &list[i].Name)
		p.text(field, &list[i].Address)
	}
	return list
}

func first(list []events.Address) *events.Address {
	if len(list) == 0 {
		return nil
	}
	return &list[0]
}

// structure fills attachments and text from the MIME tree.
func (p *payload) structure(root *message.Part) {
	p.content = message.Choose(root, maxAttachments)
	if p.content.Cut {
		p.cut("attachments")
	}
	var parts []string
	if q := p.content.Plain; q != nil {
		parts, p.e.Text.EncodedSize.Plain = append(parts, q.Number), q.Size
	}
	if q := p.content.HTML; q != nil {
		parts, p.e.Text.EncodedSize.HTML = append(parts, q.Number), q.Size
	}
	p.e.Text.ID = partID(p.folder.Num, p.uid, strings.Join(parts, ";"))
	for _, q := range p.content.Attachments {
		a := events.Attachment{
			ID: partID(p.folder.Num, p.uid, q.Number), ContentType: q.Type, EncodedSize: q.Size, Filename: q.Filename,
			Embedded: q.Embedded, Inline: q.Inline(), ContentID: q.ContentID,
		}
		if q.IsCalendar() {
			a.Method = strings.ToUpper(q.Params["method"])
		}
		p.text("attachments", &a.ContentType)
		p.text("attachments", &a.Filename)
		p.text("attachments", &a.ContentID)
		p.text("attachments", &a.Method)
		p.e.Attachments = append(p.e.Attachments, a)
	}
}

// weight is about how many bytes a messageNew takes in the journal, without encoding it.
func weight(e *events.MessageNew) int {
	n := 600 + len(e.Subject) + len(e.MessageID) + len(e.InReplyTo) + 100*(len(e.Flags)+len(e.Labels)) + 200*len(e.Attachments)
	for _, r := range e.References {
		n += len(r) + 4
	}
	for _, list := range [][]events.Address{e.FromList, e.ReplyToList, e.To, e.Cc, e.Bcc} {
		for _, a := range list {
			n += len(a.Name) + len(a.Address) + 25
		}
	}
	for _, a := range e.Attachments {
		n += len(a.Filename) + len(a.ContentID) + len(a.Content)
	}
	for name, values := range e.Headers {
		for _, v := range values {
			n += len(name) + len(v) + 8
		}
	}
	for _, c := range e.CalendarEvents {
		n += 300 + len(c.EventID) + len(c.Method) + len(c.Summary) + len(c.Description) + len(c.Timezone) + len(c.Organizer) + len(c.Filename) + len(c.Content)
	}
	n += len(e.Text.Plain) + len(e.Text.HTML) + len(e.Source)
	return n
}

// missingSteps are the waits before the repeats for a UID that the server announced
// and did not hand out.
var missingSteps = []time.Duration{time.Second, 2 * time.Second, 5 * time.Second, 10 * time.Second, 30 * time.Second}

// missingFor is how long such a UID is watched after messageMissing was said, and
// missingSlow how often.
const (
	missingFor  = 24 * time.Hour
	missingSlow = 10 * time.Minute
)

// missingDelay is how long the repeats so far have waited.
func missingDelay(tries int) time.Duration {
	var d time.Duration
	for i := range tries {
		if i < len(missingSteps) {
			d += missingSteps[i]
		} else {
			d += missingSlow
		}
	}
	return d
}

// await is a UID that is asked for again, for the first time or once more.
func await(p store.Pending, now time.Time) store.Pending {
	if p.Tries < len(missingSteps) {
		p.Next = now.Add(missingSteps[p.Tries])
	} else {
		p.Next = now.Add(missingSlow)
	}
	return p
}
