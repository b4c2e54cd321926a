package message

import (
	"bytes"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Bounds of a calendar that is read.
const (
	maxCalendarLine  = 64 << 10
	maxCalendarDepth = 20
	maxCalendarText  = 16 << 10 // of one value
	maxMethod        = 64
	maxSpan          = 100 * 365 * 24 * time.Hour // of one event
	MaxEvents        = 100
)

// Calendar is what an iCalendar object (RFC 5545) says of itself.
type Calendar struct {
	Method string // "REQUEST", "CANCEL" …; upper case; "" = none
	Events []Event
	Cut    bool // there are more events
}

// Event is a VEVENT. Of several with one UID, which are the occurrences of a series, the
// one without RECURRENCE-ID counts, else the first.
type Event struct {
	UID, Summary, Description string
	Timezone                  string    // TZID of the start; "UTC" where it is in UTC; "" = floating, or a whole day
	Start, End                time.Time // zero = not told, or in a time zone that is not known; a whole day is midnight in UTC
	Organizer                 string    // address, or what stands for it

	recurrence bool
}

// ParseCalendar reads a calendar, tolerant line by line.
func ParseCalendar(b []byte, w *Warnings) Calendar {
	r := calendarReader{w: w, zones: map[string]*zone{}, seen: map[string]int{}}
	var line []byte
	whole := func() { // lines may be folded inside a character
		r.line(strings.ReplaceAll(strings.ToValidUTF8(string(line), "\uFFFD"), "\x00", ""))
	}
	for raw := range bytes.Lines(bytes.TrimPrefix(b, []byte("\uFEFF"))) {
		raw = bytes.TrimRight(raw, "\r\n")
		if len(raw) > 0 && (raw[0] == ' ' || raw[0] == '\t') { // RFC 5545 section 3.1
			if len(line)+len(raw) <= maxCalendarLine {
				line = append(line, raw[1:]...)
			}
			continue
		}
		whole()
		line = append(line[:0], raw[:min(len(raw), maxCalendarLine)]...)
	}
	whole()
	r.finish()
	return r.cal
}

// property is a content line.
type property struct {
	name   string
	params map[string]string
	value  string
}

type calendarReader struct {
	w     *Warnings
	cal   Calendar
	stack []string
	seen  map[string]int
	drafts
	zones map[string]*zone
	zone  *zone
	rule  *rule
}

// drafts are the events before time zones are known: VTIMEZONE may stand behind them.
type drafts struct {
	event  *eventDraft
	events []eventDraft
}

type eventDraft struct {
	Event
	start, end property
	duration   string
}

func (r *calendarReader) line(s string) {
	p, ok := cutProperty(s)
	if !ok {
		return
	}
	switch p.name {
	case "BEGIN":
		if r.stack = append(r.stack, strings.ToUpper(p.value)); len(r.stack) > maxCalendarDepth {
			r.stack = r.stack[:maxCalendarDepth]
		}
		r.enter()
		return
	case "END":
		r.leave(strings.ToUpper(p.value))
		return
	}
	switch in := r.inside(); {
	case in == "VCALENDAR" && p.name == "METHOD":
		r.cal.Method, _ = Truncate(strings.ToUpper(p.value), maxMethod)
	case in == "VEVENT" && r.event != nil:
		r.event.take(p)
	case in == "VTIMEZONE" && r.zone != nil && p.name == "TZID":
		r.zones[p.value] = r.zone
	case r.rule != nil && (in == "STANDARD" || in == "DAYLIGHT"):
		r.rule.take(p)
	}
}

func (r *calendarReader) inside() string {
	if len(r.stack) == 0 {
		return ""
	}
	return r.stack[len(r.stack)-1]
}

func (r *calendarReader) enter() {
	switch r.inside() {
	case "VEVENT":
		if len(r.events) >= 4*MaxEvents {
			r.cal.Cut = true
			return
		}
		r.event = &eventDraft{}
	case "VTIMEZONE":
		if len(r.zones) < MaxEvents {
			r.zone = &zone{}
		}
	case "STANDARD", "DAYLIGHT":
		if r.zone != nil && len(r.zone.rules) < MaxEvents {
			r.rule = &rule{daylight: r.inside() == "DAYLIGHT"}
		}
	}
}

// leave closes a component, and those in it that were left open.
func (r *calendarReader) leave(name string) {
	i := len(r.stack) - 1
	for i >= 0 && r.stack[i] != name {
		i--
	}
	if i < 0 {
		return
	}
	for _, in := range slices.Backward(r.stack[i:]) {
		switch in {
		case "VEVENT":
			if r.event != nil {
				r.events = append(r.events, *r.event)
			}
			r.event = nil
		case "VTIMEZONE":
			r.zone = nil
		case "STANDARD", "DAYLIGHT":
			if r.rule != nil && r.zone != nil {
				r.zone.rules = append(r.zone.rules, *r.rule)
			}
			r.rule = nil
		}
	}
	r.stack = r.stack[:i]
}

// finish makes events of what was read, one per UID.
func (r *calendarReader) finish() {
	if r.event != nil {
		r.events = append(r.events, *r.event)
	}
	for i := range r.events {
		d := &r.events[i]
		var day bool
		d.Start, d.Timezone, day = r.moment(d.start)
		d.End, _, _ = r.moment(d.end)
		if d.End.IsZero() && !d.Start.IsZero() {
			switch span, ok := duration(d.duration); {
			case ok:
				d.End = d.Start.Add(span)
			case day && d.end.value == "": // RFC 5545 section 3.6.1
				d.End = d.Start.AddDate(0, 0, 1)
			}
		}
		for _, t := range []*time.Time{&d.Start, &d.End} {
			if t.Year() < 1 || t.Year() > 9999 { // RFC 3339 has no others
				*t = time.Time{}
			}
		}
		if at, there := r.seen[d.UID]; there {
			if r.cal.Events[at].recurrence && !d.recurrence {
				r.cal.Events[at] = d.Event
			}
			continue
		}
		if len(r.cal.Events) >= MaxEvents {
			r.cal.Cut = true
			return
		}
		r.seen[d.UID] = len(r.cal.Events)
		r.cal.Events = append(r.cal.Events, d.Event)
	}
}

// take takes a property of an event; the first of its name counts.
func (d *eventDraft) take(p property) {
	text := func(s *string) {
		if *s == "" {
			*s, _ = Truncate(unescape(p.value), maxCalendarText)
		}
	}
	switch p.name {
	case "UID":
		text(&d.UID)
	case "SUMMARY":
		text(&d.Summary)
	case "DESCRIPTION":
		text(&d.Description)
	case "ORGANIZER":
		if len(p.value) > 7 && strings.EqualFold(p.value[:7], "mailto:") {
			p.value = p.value[7:]
		}
		text(&d.Organizer)
	case "RECURRENCE-ID":
		d.recurrence = true
	case "DTSTART":
		if d.start.value == "" {
			d.start = p
		}
	case "DTEND":
		if d.end.value == "" {
			d.end = p
		}
	case "DURATION":
		d.duration = p.value
	}
}

// cutProperty reads `NAME;PARAM="a:b":value`.
func cutProperty(s string) (property, bool) {
	quoted := false
	for i := 0; i < len(s); i++ {
		switch {
		case s[i] == '"':
			quoted = !quoted
		case s[i] == ':' && !quoted:
			p := property{value: strings.TrimSpace(s[i+1:])}
			head := s[:i]
			for n := 0; n < maxParams && head != ""; n++ {
				var one string
				one, head = cutParam(head)
				if n == 0 {
					p.name = strings.ToUpper(strings.TrimSpace(one))
					continue
				}
				if name, value, ok := strings.Cut(one, "="); ok {
					if p.params == nil {
						p.params = map[string]string{}
					}
					p.params[strings.ToUpper(strings.TrimSpace(name))] = strings.Trim(value, `"`)
				}
			}
			return p, p.name != ""
		}
	}
	return property{}, false
}

// unescape is RFC 5545 section 3.3.11.
func unescape(s string) string {
	if !strings.Contains(s, `\`) {
		return s
	}
	return strings.NewReplacer(`\\`, `\`, `\n`, "\n", `\N`, "\n", `\;`, ";", `\,`, ",").Replace(s)
}

// moment reads a date or a time; zero where it cannot be told.
func (r *calendarReader) moment(p property) (t time.Time, tz string, day bool) {
	v := p.value
	if t, err := time.Parse("20060102", v); err == nil {
		return t, "", true
	}
	if t, err := time.Parse("20060102T150405Z", strings.ToUpper(v)); err == nil {
		return t, "UTC", false
	}
	t, err := time.Parse("20060102T150405", strings.ToUpper(v))
	if err != nil {
		return time.Time{}, p.params["TZID"], false
	}
	tz = p.params["TZID"]
	if tz == "" {
		return time.Time{}, "", false // wherever the reader is
	}
	if z := r.zones[tz]; z != nil && len(z.rules) > 0 {
		return t.Add(-z.offset(t)).UTC(), tz, false
	}
	name := strings.TrimPrefix(tz, "/")
	if name == "" || name == "Local" || len(name) >= 100 { // what they mean here, nobody else knows
		r.w.named("timezone", tz)
		return time.Time{}, tz, false
	}
	if loc, err := time.LoadLocation(name); err == nil {
		return time.Date(t.Year(), t.Month(), t.Day(), t.Hour(), t.Minute(), t.Second(), 0, loc).UTC(), tz, false
	}
	r.w.named("timezone", tz)
	return time.Time{}, tz, false
}

// duration reads P1DT2H30M (RFC 5545 section 3.3.6).
func duration(s string) (time.Duration, bool) {
	s = strings.ToUpper(s)
	s, ok := strings.CutPrefix(strings.TrimPrefix(s, "+"), "P")
	if !ok || len(s) > 40 {
		return 0, false
	}
	units := map[byte]time.Duration{'W': 7 * 24 * time.Hour, 'D': 24 * time.Hour, 'H': time.Hour, 'M': time.Minute, 'S': time.Second}
	var sum time.Duration
	for s != "" {
		if s[0] == 'T' {
			s = s[1:]
			continue
		}
		i := 0
		for i < len(s) && s[i] >= '0' && s[i] <= '9' {
			i++
		}
		n, err := strconv.Atoi(s[:i])
		if err != nil || i == len(s) || units[s[i]] == 0 || n > int(maxSpan/units[s[i]]) {
			return 0, false
		}
		if sum += time.Duration(n) * units[s[i]]; sum > maxSpan {
			return 0, false
		}
		s = s[i+1:]
	}
	return sum, true
}
