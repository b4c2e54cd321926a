package message

import "strings"

// Content is what of a message's parts is shown as what.
type Content struct {
	Plain, HTML *Part // nil = none
	Attachments []Attachment
	Cut         bool // there are more than were looked at, or wanted
}

// Attachment is a part that is not the text.
type Attachment struct {
	*Part
	Embedded bool // inside multipart/related
}

// Inline says whether the part asks to be shown with the text.
func (a Attachment) Inline() bool { return a.Disposition == "inline" }

// IsCalendar says whether the part is a calendar.
func (q *Part) IsCalendar() bool { return q.Type == "text/calendar" || q.Type == "application/ics" }

// Choose picks the text, the HTML and at most most attachments. The first part of each
// kind that is no attachment and has no file name is the text; everything else, an
// unopened message among it, is an attachment. Trees that others built are looked at to
// the bounds of Parse, too.
func Choose(root *Part, most int) Content {
	var c Content
	type place struct {
		part    *Part
		depth   int
		related bool
	}
	todo := []place{{part: root}}
	for n := 0; len(todo) > 0; n++ {
		at := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		q := at.part
		if q == nil {
			continue
		}
		if n >= 2*MaxParts || at.depth > 2*MaxDepth {
			c.Cut = true
			break
		}
		if q.Children != nil || strings.HasPrefix(q.Type, "multipart/") && q.Body == nil {
			for i := len(q.Children) - 1; i >= 0; i-- {
				todo = append(todo, place{q.Children[i], at.depth + 1, at.related || q.Type == "multipart/related"})
			}
			continue
		}
		switch text := q.Disposition != "attachment" && q.Filename == ""; {
		case text && q.Type == "text/plain" && c.Plain == nil:
			c.Plain = q
		case text && q.Type == "text/html" && c.HTML == nil:
			c.HTML = q
		case len(c.Attachments) >= most:
			c.Cut = true
		default:
			c.Attachments = append(c.Attachments, Attachment{q, at.related})
		}
	}
	return c
}
