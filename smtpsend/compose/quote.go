package compose

import (
	"html"
	"slices"
	"strings"
	"time"

	"github.com/postrider/postrider/internal/message"
)

// maxQuote bounds the HTML of an original that is quoted, octets.
const maxQuote = 2 << 20

// phrases are the words around a quote, in one language. %d is the date, %n who wrote.
type phrases struct {
	wrote, date                         string
	forwarded, from, sent, subj, to, cc string
}

// spoken are the languages that a quote can be introduced in.
var spoken = map[string]phrases{
	"en": {"On %d, %n wrote:", "Mon, 2 Jan 2006 at 15:04", "Forwarded message", "From", "Date", "Subject", "To", "Cc"},
	"de": {"Am %d schrieb %n:", "02.01.2006 um 15:04", "Weitergeleitete Nachricht", "Von", "Datum", "Betreff", "An", "Cc"},
	"fr": {"Le %d, %n a écrit :", "02/01/2006 à 15:04", "Message transféré", "De", "Date", "Objet", "À", "Cc"},
	"es": {"El %d, %n escribió:", "02/01/2006 15:04", "Mensaje reenviado", "De", "Fecha", "Asunto", "Para", "Cc"},
}

// quoteInto puts the original's text behind the caller's: into the forms that the caller
// uses, or into those that the original has.
func quoteInto(o *Original, r *Reference, m *Message) {
	language, _, _ := strings.Cut(strings.ToLower(strings.ReplaceAll(r.Locale, "_", "-")), "-")
	p, ok := spoken[language]
	if !ok {
		p = spoken["en"]
	}
	lines := introduce(o, r, p)
	none := m.Text == nil && m.HTML == nil
	rich := valueOf(m.HTML) != "" || none && o.HTML != ""
	if m.Text == nil || *m.Text != "" || !rich { // text:"" beside HTML asks for none
		mine, theirs := valueOf(m.Text), o.Text
		if m.Text == nil {
			mine = plainOf(valueOf(m.HTML))
		}
		if theirs == "" {
			theirs = plainOf(o.HTML)
		}
		m.Text = new(quoteText(mine, lines, theirs, r.Action == Forward))
	}
	if rich {
		quoted := quoteHTML(o)
		m.HTML = new(insert(valueOf(m.HTML), lines, quoted, r.Action == Forward))
		m.Attachments = slices.Clone(m.Attachments)
		for _, a := range o.Attachments {
			a = adopt(a)
			if !shows(quoted, a.CID) || slices.ContainsFunc(m.Attachments, func(b Attachment) bool { return bareID(b.CID) == a.CID }) {
				continue
			}
			a.Inline = true
			m.Attachments = append(m.Attachments, a)
		}
	}
}

// shows says whether HTML that was made safe has an image of this content id.
func shows(quoted, cid string) bool {
	return cid != "" && strings.Contains(quoted, `"cid:`+html.EscapeString(cid)+`"`)
}

func valueOf(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}

// introduce are the lines that stand before a quote.
func introduce(o *Original, r *Reference, p phrases) []string {
	when := ""
	if t, ok := message.Date(o.Header.First("date")); ok {
		zone := r.Zone
		if zone == nil {
			zone = time.UTC
		}
		when = t.In(zone).Format(p.date)
	}
	if r.Action != Forward {
		who := named(o.Header["from"])
		return []string{strings.NewReplacer("%d", when, "%n", who).Replace(p.wrote)}
	}
	lines := []string{"---------- " + p.forwarded + " ----------"}
	for _, l := range []struct{ name, value string }{
		{p.from, named(o.Header["from"])},
		{p.sent, when},
		{p.subj, message.Words(o.Header.First("subject"), nil)},
		{p.to, named(o.Header["to"])},
		{p.cc, named(o.Header["cc"])},
	} {
		if value, more := message.Truncate(l.value, 2000); value != "" {
			if more {
				value += " …"
			}
			lines = append(lines, l.name+": "+value)
		}
	}
	return lines
}

// named shows addresses to people.
func named(values []string) string {
	var out []string
	for _, v := range values {
		for _, a := range message.Addresses(v, nil) {
			switch {
			case a.Address == "":
				out = append(out, a.Name)
			case a.Name == "":
				out = append(out, a.Address)
			default:
				out = append(out, a.Name+" <"+a.Address+">")
			}
		}
	}
	return strings.Join(out, ", ")
}

func quoteText(own string, lines []string, text string, whole bool) string {
	var b strings.Builder
	if own = strings.TrimRight(own, "\r\n"); own != "" {
		b.WriteString(own + "\n\n")
	}
	b.WriteString(strings.Join(lines, "\n") + "\n")
	if whole {
		b.WriteString("\n" + text)
		return within(b.String())
	}
	for line := range strings.Lines(text) {
		b.WriteString(">")
		if !strings.HasPrefix(line, ">") && strings.TrimSpace(line) != "" {
			b.WriteString(" ")
		}
		b.WriteString(strings.TrimRight(line, " \t\r\n") + "\n")
	}
	return within(b.String())
}

// within cuts what the original makes too long; what the caller wrote stands before it.
func within(s string) string {
	s, _ = message.Truncate(s, maxText)
	return s
}

// quoteHTML is the original as it may stand in HTML of ours.
func quoteHTML(o *Original) string {
	if o.HTML == "" {
		return `<div style="white-space: pre-wrap">` + html.EscapeString(o.Text) + "</div>"
	}
	whole, _ := message.Truncate(o.HTML, maxQuote)
	safe, _ := message.WebSafe(whole, maxQuote)
	return safe
}

// insert puts the quote behind the caller's HTML, inside its body where it has one. A
// quote that would make it too long is left out; its introduction stays.
func insert(own string, lines []string, quoted string, whole bool) string {
	at := len(own)
	lower := strings.ToLower(own)
	for _, tag := range []string{"</body", "</html"} {
		if i := strings.LastIndex(lower, tag); i >= 0 && len(lower) == len(own) {
			at = i
			break
		}
	}
	var b strings.Builder
	b.WriteString(own[:at] + "<br><div>")
	for i, l := range lines {
		if i > 0 {
			b.WriteString("<br>")
		}
		b.WriteString(html.EscapeString(l))
	}
	b.WriteString("</div>")
	if b.Len()+len(quoted)+len(own)-at+200 <= maxText {
		if whole {
			b.WriteString("<br><div>" + quoted + "</div>")
		} else {
			b.WriteString(`<blockquote type="cite" style="margin: 0 0 0 0.8ex; border-left: 1px solid #ccc; padding-left: 1ex">` + quoted + "</blockquote>")
		}
	}
	return b.String() + own[at:]
}
