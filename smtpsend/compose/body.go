package compose

import (
	"fmt"
	"maps"
	"mime"
	"path"
	"slices"
	"strings"
)

// part is a node of the tree of a message.
type part struct {
	kind     string // "text/plain"; of several parts "multipart/mixed"
	params   []param
	place    string // Content-Disposition; "" = none
	filename string
	id       string // Content-ID, without brackets
	body     piece
	parts    []*part
}

// attachments checks the attachments, and finds how attached messages can be written.
func (c *composer) attachments() {
	c.m.Attachments = slices.Clone(c.m.Attachments)
	if len(c.m.Attachments) > maxAttachments {
		c.problem("attachments", ValueInvalid, "more than %d", maxAttachments)
		return
	}
	ids := map[string]bool{}
	for i := range c.m.Attachments {
		a, at := &c.m.Attachments[i], fmt.Sprintf("attachments[%d]", i)
		if a.Open == nil {
			c.problem(at, ValueInvalid, "it has no content")
		}
		a.Filename = c.phrase(at+".filename", a.Filename, maxName)
		if a.CID = bareID(a.CID); a.CID != "" && !c.broken(at+".cid", a.CID) {
			switch {
			case len(a.CID) > maxID || !isGraph(a.CID) || strings.ContainsAny(a.CID, "<>"):
				c.problem(at+".cid", ValueInvalid, "not a content id, or over %d octets", maxID)
			case ids[a.CID]:
				c.problem(at+".cid", ContentIDDuplicate, "another attachment has it")
			}
			ids[a.CID] = true
		}
		if a.ContentType == "" {
			a.ContentType = typeOf(a.Filename)
		}
		if !c.broken(at+".contentType", a.ContentType) {
			if _, _, ok := cutType(a.ContentType); !ok {
				c.problem(at+".contentType", ValueInvalid, "not a media type that a file can have")
			}
		}
	}
}

func bareID(s string) string {
	return strings.TrimSuffix(strings.TrimPrefix(strings.TrimSpace(s), "<"), ">")
}

// cutType reads the media type of a single part.
func cutType(s string) (kind string, params []param, ok bool) {
	kind, list, err := mime.ParseMediaType(s)
	major, minor, two := strings.Cut(kind, "/")
	if err != nil || !two || major == "multipart" || !isToken(major) || !isToken(minor) || len(kind) > 127 {
		return "", nil, false
	}
	for _, name := range slices.Sorted(maps.Keys(list)) {
		if name == "name" || name == "boundary" { // the disposition has the name
			continue
		}
		if !isToken(name) || strings.Contains(name, "*") || len(name) > 20 || hasBreak(list[name]) || len(list[name]) > 500 {
			return "", nil, false
		}
		params = append(params, param{name, list[name]})
	}
	return kind, params, true
}

// typeOf is the media type of a file by its name. It is not asked of the machine, so that
// every one composes the same.
func typeOf(filename string) string {
	if t, ok := types[strings.ToLower(path.Ext(filename))]; ok {
		return t
	}
	return "application/octet-stream"
}

var types = map[string]string{
	".avif": "image/avif", ".bmp": "image/bmp", ".csv": "text/csv", ".css": "text/css", ".doc": "application/msword",
	".docx": "application/vnd.openxmlformats-officedocument.wordprocessingml.document", ".eml": "message/rfc822",
	".epub": "application/epub+zip", ".gif": "image/gif", ".gz": "application/gzip", ".heic": "image/heic", ".htm": "text/html",
	".html": "text/html", ".ico": "image/vnd.microsoft.icon", ".ics": "text/calendar", ".jpeg": "image/jpeg", ".jpg": "image/jpeg",
	".json": "application/json", ".md": "text/markdown", ".mov": "video/quicktime", ".mp3": "audio/mpeg", ".mp4": "video/mp4",
	".odp": "application/vnd.oasis.opendocument.presentation", ".ods": "application/vnd.oasis.opendocument.spreadsheet",
	".odt": "application/vnd.oasis.opendocument.text", ".ogg": "audio/ogg", ".pdf": "application/pdf", ".png": "image/png",
	".ppt": "application/vnd.ms-powerpoint", ".pptx": "application/vnd.openxmlformats-officedocument.presentationml.presentation",
	".rtf": "application/rtf", ".svg": "image/svg+xml", ".tar": "application/x-tar", ".tif": "image/tiff", ".tiff": "image/tiff",
	".txt": "text/plain", ".vcf": "text/vcard", ".wav": "audio/wav", ".webm": "video/webm", ".webp": "image/webp",
	".xls": "application/vnd.ms-excel", ".xlsx": "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
	".xml": "application/xml", ".zip": "application/zip",
}

// body writes the rest of the header, and the tree: mixed( alternative( text, related(
// HTML, inline… ) ), attachment… ), without those that would hold one part.
func (c *composer) body(f *fields) {
	html := c.m.HTML != nil && *c.m.HTML != ""
	var inline, apart []*part
	for i := range c.m.Attachments {
		a := &c.m.Attachments[i]
		p := c.file(a, fmt.Sprintf("attachments[%d]", i))
		if html && a.Inline && a.CID != "" {
			inline = append(inline, p)
		} else {
			apart = append(apart, p)
		}
	}
	var texts []*part
	switch {
	case c.m.Text != nil && (*c.m.Text != "" || !html):
		texts = append(texts, text("text/plain", *c.m.Text))
	case c.m.Text == nil && html:
		if s := plainOf(*c.m.HTML); s != "" {
			texts = append(texts, text("text/plain", s))
		}
	case !html && len(apart) == 0:
		texts = append(texts, text("text/plain", ""))
	}
	if html {
		related := multi("multipart/related", append([]*part{text("text/html", *c.m.HTML)}, inline...))
		if related.parts != nil {
			related.params = []param{{"type", "text/html"}} // RFC 2387 section 3.1
		}
		texts = append(texts, related)
	}
	root := multi("multipart/mixed", append(maybe(multi("multipart/alternative", texts)), apart...))
	root.body.ends = root.parts == nil
	c.write(root, f)
	c.out.pieces = append(c.out.pieces, piece{data: f.String()})
}

func text(kind, s string) *part {
	s = strings.ToValidUTF8(s, "\uFFFD")
	return &part{kind: kind, params: []param{{"charset", "utf-8"}}, body: piece{data: s, encoding: textEncoding(s)}}
}

// textEncoding is 7bit for text that arrives as it is: short lines of ASCII, none of which
// mailers on the way are known to change (From, spaces at its end).
func textEncoding(s string) string {
	for line := range strings.Lines(s) {
		line = strings.TrimSuffix(strings.TrimSuffix(line, "\n"), "\r")
		if len(line) > foldAt || strings.HasPrefix(line, "From ") || strings.TrimRight(line, " \t") != line || !isVisible(line) {
			return quoted
		}
	}
	return sevenBit
}

// multi puts parts together; nil of none, of one that one.
func multi(kind string, parts []*part) *part {
	switch len(parts) {
	case 0:
		return nil
	case 1:
		return parts[0]
	}
	return &part{kind: kind, parts: parts}
}

func maybe(p *part) []*part {
	if p == nil {
		return nil
	}
	return []*part{p}
}

// file is the part of an attachment.
func (c *composer) file(a *Attachment, at string) *part {
	p := &part{place: "attachment", filename: a.Filename, id: a.CID}
	if a.Inline {
		p.place = "inline"
	}
	p.kind, p.params, _ = cutType(a.ContentType)
	p.body = piece{open: a.Open, size: a.Size, written: base64Size(a.Size), encoding: base64ed, location: at}
	if a.Size > 0 {
		p.body.tail = 2
	}
	if !strings.HasPrefix(p.kind, "message/") {
		return p
	}
	// RFC 2046 section 5.2: a message is not encoded. One that cannot go as it is becomes
	// a file.
	if p.kind == "message/rfc822" {
		as, err := carries(a.Open)
		if err != nil && c.err == nil {
			c.err = fmt.Errorf("%s: %w", at, err)
		}
		if as.encoding != "" {
			p.body.encoding, p.body.size, p.body.written, p.body.tail = as.encoding, as.size, as.written, as.tail
			c.out.Needs8Bit = c.out.Needs8Bit || as.encoding == eightBit
			return p
		}
	}
	p.kind, p.params = "application/octet-stream", nil
	return p
}

// write writes a part: header and body become pieces, the end of a multipart stays in f.
func (c *composer) write(p *part, f *fields) {
	if p.parts != nil {
		boundary := "=_" + c.random() // neither quoted-printable nor base64 has "=_"
		f.params("Content-Type", p.kind, append([]param{{"boundary", boundary}}, p.params...)...)
		if c.out.Needs8Bit { // RFC 2045 section 6.4
			f.line("Content-Transfer-Encoding", eightBit)
		}
		for _, child := range p.parts {
			f.WriteString("\r\n--" + boundary + "\r\n")
			c.write(child, f)
		}
		f.WriteString("\r\n--" + boundary + "--\r\n")
		return
	}
	f.params("Content-Type", p.kind, p.params...)
	f.line("Content-Transfer-Encoding", p.body.encoding)
	if p.place != "" {
		var name []param
		if p.filename != "" {
			name = []param{{"filename", p.filename}}
		}
		f.params("Content-Disposition", p.place, name...)
	}
	if p.id != "" {
		f.line("Content-ID", "<"+p.id+">")
	}
	f.end()
	c.out.pieces = append(c.out.pieces, piece{data: f.String()}, p.body)
	*f = fields{}
}
