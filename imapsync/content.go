package imapsync

import (
	"bytes"
	"context"
	"encoding/base64"
	"slices"
	"strings"

	"github.com/postrider/postrider/events"
	"github.com/postrider/postrider/internal/message"
	"github.com/postrider/postrider/store"
)

// What of a message's content one event may hold, beside what the settings allow.
const (
	maxHeaders     = 64 << 10
	maxAttached    = 1 << 20   // of attachments, decoded, and of calendars
	maxCalendar    = 256 << 10 // of one calendar part, decoded
	maxCalendars   = 64 << 10  // of what is read out of them
	unknownMessage = 1 << 20   // of a message whose structure is not known
)

// contentTries is how often reading a message's content may end the connection before
// the message is announced without.
const contentTries = 2

// content is what a messageNew tells of a message's content.
type content struct {
	text       events.Text // without id and sizes
	attached   map[string]string
	calendar   []events.CalendarEvent // Attachment is the part's number
	headers    map[string][]string
	source     string
	truncated  []string
	incomplete []string
	warnings   message.Warnings
}

// contentReader reads the content of one message: sync.md §4.8, stage B. What the server
// does not give, or what cannot be read, is said in the event and never fails a step.
type contentReader struct {
	s     *step
	m     *Message
	want  store.Content
	c     content
	parts message.Content
	got   map[string]piece
	lost  map[string]bool // sections that the server did not give
}

// piece is what was read of a section.
type piece struct {
	data []byte
	cut  bool // there may be more
}

// section is a section of a message that is wanted.
type section struct {
	name string
	most int64 // bytes
	size int64 // as the server says; 0 = it does not
	says string
}

// contentWanted is what the account's settings want of messages, now.
func (w *worker) contentWanted(ctx context.Context) (store.Content, error) {
	set, err := w.settings(ctx)
	if err != nil {
		return store.Content{}, err
	}
	return w.account().Override.Over(set.Content), nil
}

// content reads what the settings want of a message; nil: nothing. The memory it takes
// is ours until done is called, which MUST be done before the next message is read.
// Errors are the session's end, or the store's.
func (s *step) content(ctx context.Context, m *Message) (c *content, done func(), err error) {
	want, err := s.w.contentWanted(ctx)
	if err != nil || !want.Any() {
		return nil, func() {}, err
	}
	r := &contentReader{s: s, m: m, want: want, got: map[string]piece{}, lost: map[string]bool{}}
	// Raw, decoded, encoded for JSON, as the event's bytes and on its way to Redis.
	reading, done, err := s.w.contents.enter(ctx, 5*r.weight())
	if err != nil {
		return nil, func() {}, err
	}
	whole := false
	defer func() {
		if whole {
			return
		}
		done() // here, since behind a panic nobody else would
		done = func() {}
		if ctx.Err() == nil {
			if s.f.deadly == nil {
				s.f.deadly = map[uint32]int{}
			}
			s.f.deadly[m.UID]++
		}
	}()
	if s.f.deadly[m.UID] < contentTries {
		if err := r.read(reading); err != nil {
			return nil, done, err
		}
		r.decode()
	} else {
		r.giveUp()
	}
	whole = true
	delete(s.f.deadly, m.UID)
	return &r.c, done, nil
}

// weight is about how much is going to be read.
func (r *contentReader) weight() int64 {
	const least = 64 << 10
	size := min(r.m.Size, store.MaxSourceSize) + least // whatever size the server tells
	if r.m.Size == 0 {
		size = maxPiece
	}
	n := int64(least)
	if r.want.Source && size <= int64(r.want.SourceSize)+least || r.m.Structure == nil {
		n += min(size, max(int64(r.want.SourceSize), unknownMessage))
	}
	for _, sec := range r.plan() {
		n += min(sec.most, sec.size+least)
	}
	return n
}

// wantsParts says whether parts of the message are wanted.
func (r *contentReader) wantsParts() bool {
	return r.want.Text || r.want.Attachments || r.want.CalendarEvents
}

// plan chooses the sections to ask for by what the server says of the structure.
func (r *contentReader) plan() []section {
	var out []section
	if len(r.want.Headers) > 0 {
		out = append(out, section{name: "HEADER", most: maxHeaders, says: "headers"})
	}
	if !r.wantsParts() || r.m.Structure == nil {
		return out
	}
	r.parts = message.Choose(r.m.Structure, maxAttachments)
	add := func(q *message.Part, decoded int, says string) {
		if !slices.ContainsFunc(out, func(s section) bool { return s.name == q.Number }) {
			out = append(out, section{name: q.Number, most: encodedRoom(q.Encoding, decoded), size: q.Size, says: says})
		}
	}
	if r.want.Text && r.want.TextSize > 0 {
		if q := r.parts.Plain; q != nil {
			add(q, r.want.TextSize, "text.plain")
		}
		if q := r.parts.HTML; q != nil {
			add(q, r.want.TextSize, "text.html")
		}
	}
	left, calendars := int64(maxAttached), int64(maxAttached)
	for _, q := range r.parts.Attachments {
		switch n := decodedSize(q.Part); {
		case r.want.Attachments && n <= int64(r.want.AttachmentSize) && n <= left:
			left -= n
			add(q.Part, r.want.AttachmentSize, "attachments.content")
		case r.want.CalendarEvents && q.IsCalendar() && n <= maxCalendar && n <= calendars:
			calendars -= n
			add(q.Part, maxCalendar, "calendarEvents")
		}
	}
	return out
}

// encodedRoom is how many transferred bytes make decoded ones: base64 in lines of 76
// with their ends takes 1.37 for one, quoted-printable at most three.
func encodedRoom(encoding string, decoded int) int64 {
	n := int64(decoded)
	switch encoding {
	case "base64":
		n = n * 11 / 8
	case "quoted-printable":
		n *= 3
	}
	return n + 4<<10
}

// decodedSize is about how large a part is when it is decoded.
func decodedSize(q *message.Part) int64 {
	if q.Encoding == "base64" {
		return q.Size * 76 / 78 * 3 / 4
	}
	return q.Size
}

// read asks the server. Errors end the session.
func (r *contentReader) read(ctx context.Context) error {
	whole := section{most: unknownMessage, size: r.m.Size, says: "bodyStructure"}
	if r.want.Source {
		whole.most, whole.says = int64(r.want.SourceSize)+1, "source"
		if r.m.Size > int64(r.want.SourceSize) {
			r.cut("source")
			whole.most = 0
		}
	}
	if r.m.Structure == nil && r.wantsParts() {
		whole.most = max(whole.most, unknownMessage)
	} else if !r.want.Source {
		whole.most = 0
	}
	if whole.most > 0 {
		if err := r.fetch(ctx, []section{whole}); err != nil {
			return err
		}
		r.open(whole)
	}
	var left []section
	for _, sec := range r.plan() {
		if _, there := r.got[sec.name]; !there {
			left = append(left, sec)
		}
	}
	return r.fetch(ctx, left)
}

// open takes what the whole message tells, so that it need not be asked for again.
func (r *contentReader) open(asked section) {
	raw := r.got[""]
	if len(raw.data) == 0 {
		return
	}
	cut := int64(len(raw.data)) >= asked.most
	if cut && r.want.Source {
		r.cut("source")
	}
	parsed := message.Parse(raw.data, &r.c.warnings)
	if r.m.Structure == nil {
		r.m.Structure = parsed.Root
		if !cut {
			r.m.Damaged = slices.DeleteFunc(slices.Clone(r.m.Damaged), func(s string) bool { return s == "bodyStructure" })
		}
	}
	head := raw.data[:min(len(raw.data), maxHeaders)]
	ends := bytes.Contains(head, []byte("\n\r\n")) || bytes.Contains(head, []byte("\n\n"))
	r.got["HEADER"] = piece{head, len(raw.data) > maxHeaders && !ends}
	for _, ours := range leaves(parsed.Root) {
		theirs := find(r.m.Structure, ours.Number)
		if theirs == nil || theirs.Type != ours.Type {
			continue
		}
		last := cap(ours.Body)-len(ours.Body) == cap(raw.data)-len(raw.data) // it ends where the message does
		r.got[ours.Number] = piece{ours.Body, cut && last}
	}
}

// leaves are the parts that have a body.
func leaves(q *message.Part) []*message.Part {
	if q.Children == nil {
		return []*message.Part{q}
	}
	var out []*message.Part
	for _, c := range q.Children {
		out = append(out, leaves(c)...)
	}
	return out
}

// find gives the part of a number.
func find(q *message.Part, number string) *message.Part {
	for q != nil && q.Number != number {
		i := slices.IndexFunc(q.Children, func(c *message.Part) bool {
			return c.Number == number || strings.HasPrefix(number, c.Number+".")
		})
		if i < 0 {
			return nil
		}
		q = q.Children[i]
	}
	return q
}

// fetch reads sections: the beginnings of as many as fit into a command together, what is
// longer in pieces.
func (r *contentReader) fetch(ctx context.Context, want []section) error {
	for len(want) > 0 {
		var ask []PartWanted
		sum := int64(0)
		for _, sec := range want {
			n := min(sec.most, maxPiece)
			if sum += n; sum > maxPieces && len(ask) > 0 || len(ask) == 40 {
				break
			}
			ask = append(ask, PartWanted{Section: sec.name, Size: n})
		}
		now := want[:len(ask)]
		want = want[len(ask):]
		got, err := r.ask(ctx, ask)
		if err != nil {
			return err
		}
		for i, sec := range now {
			if err := r.rest(ctx, sec, got[i]); err != nil {
				return err
			}
		}
	}
	return nil
}

// ask is one command; where the server refuses it, one for each section. What comes as
// nothing is nil.
func (r *contentReader) ask(ctx context.Context, want []PartWanted) ([][]byte, error) {
	got, err := r.s.w.sess.Parts(ctx, r.m.UID, want)
	if err == nil {
		return got, nil
	}
	if !goesOn(err) {
		return nil, err
	}
	out := make([][]byte, len(want))
	for i := range want {
		if len(want) == 1 {
			break
		}
		one, err := r.ask(ctx, want[i:i+1])
		if err != nil {
			return nil, err
		}
		out[i] = one[0]
	}
	return out, nil
}

// rest reads on behind the first piece of a section.
func (r *contentReader) rest(ctx context.Context, sec section, first []byte) error {
	if len(first) == 0 && (sec.size > 0 || first == nil) { // once more: some servers need to think
		got, err := r.ask(ctx, []PartWanted{{Section: sec.name, Size: min(sec.most, maxPiece)}})
		if err != nil {
			return err
		}
		if first = got[0]; len(first) == 0 {
			r.missing(sec)
			return nil
		}
	}
	data := first
	for n := int64(len(first)); n == maxPiece && int64(len(data)) < sec.most; {
		got, err := r.ask(ctx, []PartWanted{{Section: sec.name, Offset: int64(len(data)), Size: min(sec.most-int64(len(data)), maxPiece)}})
		if err != nil {
			return err
		}
		if got[0] == nil && int64(len(data)) < sec.size {
			r.missing(sec)
		}
		n = int64(len(got[0]))
		data = append(data, got[0]...)
	}
	r.got[sec.name] = piece{data, int64(len(data)) >= sec.most}
	return nil
}

// giveUp says of everything wanted that it did not come.
func (r *contentReader) giveUp() {
	for _, sec := range r.plan() {
		r.missing(sec)
	}
	if r.want.Source {
		r.missing(section{says: "source"})
	}
}

func (r *contentReader) cut(field string) {
	if !slices.Contains(r.c.truncated, field) {
		r.c.truncated = append(r.c.truncated, field)
	}
}

func (r *contentReader) missing(sec section) {
	r.lost[sec.name] = true
	if !slices.Contains(r.c.incomplete, sec.says) {
		r.c.incomplete = append(r.c.incomplete, sec.says)
	}
}

// decode makes of what came what the event says.
func (r *contentReader) decode() {
	r.headers()
	if raw := r.got[""]; r.want.Source && len(raw.data) > 0 && !slices.Contains(r.c.truncated, "source") && !slices.Contains(r.c.incomplete, "source") {
		r.c.source = base64.StdEncoding.EncodeToString(raw.data)
	}
	if r.want.Text {
		r.c.text.Plain = r.text(r.parts.Plain)
		html := r.text(r.parts.HTML)
		if r.want.WebSafeHTML && html != "" {
			var more bool
			html, more = message.WebSafe(html, r.want.TextSize)
			r.c.text.WebSafe, r.c.text.HasMore = true, r.c.text.HasMore || more
		}
		r.c.text.HTML = html
	}
	if r.want.Attachments || r.want.CalendarEvents {
		r.attachments()
	}
}

func (r *contentReader) text(q *message.Part) string {
	if q == nil {
		return ""
	}
	p, ok := r.got[q.Number]
	if !ok {
		r.c.text.HasMore = r.c.text.HasMore || q.Size > 0 // none is wanted, or the server gave none
		return ""
	}
	text, more := message.Text(q, p.data, p.cut, r.want.TextSize, &r.c.warnings)
	r.c.text.HasMore = r.c.text.HasMore || more
	return text
}

// headers chooses the fields that are wanted.
func (r *contentReader) headers() {
	p, ok := r.got["HEADER"]
	if !ok || len(r.want.Headers) == 0 {
		return
	}
	if p.cut {
		r.cut("headers")
	}
	all := r.want.Headers[0] == "*"
	r.c.headers = map[string][]string{}
	left := maxHeaders
	for name, values := range message.ParseHeader(p.data) {
		if !all && !slices.Contains(r.want.Headers, name) {
			continue
		}
		for _, v := range values {
			v = message.Words(v, &r.c.warnings)
			if left -= len(name) + len(v); left < 0 {
				r.cut("headers")
				return
			}
			r.c.headers[name] = append(r.c.headers[name], v)
		}
	}
}

// attachments decodes attachments and reads calendars.
func (r *contentReader) attachments() {
	left, room := maxAttached, maxCalendars
	seen := map[string]bool{}
	for _, q := range r.parts.Attachments {
		p, ok := r.got[q.Number]
		calendar := r.want.CalendarEvents && q.IsCalendar()
		if !ok {
			if r.want.Attachments && !r.lost[q.Number] {
				r.cut("attachments.content")
			}
			if calendar && !r.lost[q.Number] {
				r.cut("calendarEvents")
			}
			continue
		}
		most := max(r.want.AttachmentSize, maxCalendar)
		data, more := message.Decode(q.Encoding, p.data, most, &r.c.warnings)
		more = more || p.cut
		if r.want.Attachments {
			if more || len(data) > r.want.AttachmentSize || len(data) > left {
				r.cut("attachments.content")
			} else {
				if r.c.attached == nil {
					r.c.attached = map[string]string{}
				}
				left -= len(data)
				r.c.attached[q.Number] = base64.StdEncoding.EncodeToString(data)
			}
		}
		if calendar && more {
			r.cut("calendarEvents")
		} else if calendar {
			r.calendar(q.Part, data, seen, &room)
		}
	}
}

// calendar makes events of a calendar part, one for each UID that was not seen before.
// The first of them carries the calendar.
func (r *contentReader) calendar(q *message.Part, data []byte, seen map[string]bool, room *int) {
	cal := message.ParseCalendar(data, &r.c.warnings)
	if cal.Cut {
		r.cut("calendarEvents")
	}
	content := base64.StdEncoding.EncodeToString(data)
	filename, _ := message.Truncate(q.Filename, maxText)
	for _, e := range cal.Events {
		if e.UID != "" && seen[e.UID] {
			continue
		}
		if *room -= len(e.UID) + len(e.Summary) + len(e.Description) + len(e.Organizer) + len(e.Timezone) + len(cal.Method) + len(filename) + 300; *room < 0 {
			r.cut("calendarEvents")
			return
		}
		seen[e.UID] = true
		out := events.CalendarEvent{
			EventID: e.UID, Attachment: q.Number, Method: cal.Method, Summary: e.Summary, Description: e.Description,
			Timezone: e.Timezone, Organizer: e.Organizer, Filename: filename, ContentType: q.Type, Encoding: "base64", Content: content,
		}
		if !e.Start.IsZero() {
			out.StartDate = new(events.TimeOf(e.Start))
		}
		if !e.End.IsZero() {
			out.EndDate = new(events.TimeOf(e.End))
		}
		if out.Filename == "" {
			out.Filename = "invite.ics"
		}
		content = ""
		r.c.calendar = append(r.c.calendar, out)
	}
}
