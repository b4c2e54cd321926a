package store

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Content says what a messageNew tells of a message beyond what its envelope does. It
// acts when the event is made; sizes are bytes, before they are encoded for JSON.
type Content struct {
	Text           bool     // text.plain and text.html
	TextSize       int      // of each of the two; default 64 KiB
	WebSafeHTML    bool     // text.html sanitised; nothing without Text
	Headers        []string // names for headers, in lower case; "*" alone = all
	Attachments    bool     // attachments[].content
	AttachmentSize int      // of one; default 256 KiB
	CalendarEvents bool
	Source         bool // the whole message
	SourceSize     int  // of the largest that is given; default 1 MiB
}

// Any says whether anything of a message's body or headers is wanted.
func (c Content) Any() bool {
	return c.Text || len(c.Headers) > 0 || c.Attachments || c.CalendarEvents || c.Source
}

// ContentOverride is Content of one account alone; nil = the instance's.
type ContentOverride struct {
	Text           *bool     `json:"notifyText,omitempty"`
	TextSize       *int      `json:"notifyTextSize,omitempty"`
	WebSafeHTML    *bool     `json:"notifyWebSafeHtml,omitempty"`
	HeaderNames    *[]string `json:"notifyHeaders,omitempty"`
	Attachments    *bool     `json:"notifyAttachments,omitempty"`
	AttachmentSize *int      `json:"notifyAttachmentSize,omitempty"`
	CalendarEvents *bool     `json:"notifyCalendarEvents,omitempty"`
	Source         *bool     `json:"notifySource,omitempty"`
	SourceSize     *int      `json:"notifySourceSize,omitempty"`
}

// Over is c with what the account has for itself.
func (o ContentOverride) Over(c Content) Content {
	over(&c.Text, o.Text)
	over(&c.TextSize, o.TextSize)
	over(&c.WebSafeHTML, o.WebSafeHTML)
	over(&c.Headers, o.HeaderNames)
	over(&c.Attachments, o.Attachments)
	over(&c.AttachmentSize, o.AttachmentSize)
	over(&c.CalendarEvents, o.CalendarEvents)
	over(&c.Source, o.Source)
	over(&c.SourceSize, o.SourceSize)
	return c
}

func over[T any](at, with *T) {
	if with != nil {
		*at = *with
	}
}

// The largest sizes of Content.
const (
	MaxTextSize       = 1 << 20
	MaxAttachmentSize = 1 << 20
	MaxSourceSize     = 10 << 20
)

func defaultContent() Content {
	return Content{TextSize: 64 << 10, AttachmentSize: 256 << 10, SourceSize: 1 << 20}
}

// contentKeys are the settings of Content.
func contentKeys(keys map[string]setting) {
	keys["notifyText"] = boolean(func(s *Settings) *bool { return &s.Content.Text })
	keys["notifyTextSize"] = number(0, MaxTextSize, func(s *Settings) *int { return &s.Content.TextSize })
	keys["notifyWebSafeHtml"] = boolean(func(s *Settings) *bool { return &s.Content.WebSafeHTML })
	keys["notifyAttachments"] = boolean(func(s *Settings) *bool { return &s.Content.Attachments })
	keys["notifyAttachmentSize"] = number(0, MaxAttachmentSize, func(s *Settings) *int { return &s.Content.AttachmentSize })
	keys["notifyCalendarEvents"] = boolean(func(s *Settings) *bool { return &s.Content.CalendarEvents })
	keys["notifySource"] = boolean(func(s *Settings) *bool { return &s.Content.Source })
	keys["notifySourceSize"] = number(0, MaxSourceSize, func(s *Settings) *int { return &s.Content.SourceSize })
	keys["notifyHeaders"] = setting{false, func(s *Settings, b json.RawMessage) error {
		var v []string
		if err := strict(b, &v); err != nil {
			return err
		}
		names, err := HeaderNames(v)
		if err != nil {
			return err
		}
		s.Content.Headers = names
		return nil
	}, func(s Settings) any { return s.Content.Headers }}
}

// boolean is a setting that is true or false; null is false.
func boolean(at func(*Settings) *bool) setting {
	return setting{false, func(s *Settings, b json.RawMessage) error {
		*at(s) = false
		return strict(b, at(s))
	}, func(s Settings) any { return *at(&s) }}
}

// HeaderNames checks the names of notifyHeaders and gives them in lower case, each once.
func HeaderNames(names []string) ([]string, error) {
	if len(names) > 100 {
		return nil, errors.New("must be at most 100 names")
	}
	var out []string
	for i, name := range names {
		name = strings.ToLower(name)
		bad := name == "" || len(name) > 100 || strings.ContainsFunc(name, func(r rune) bool { return r <= ' ' || r > '~' || r == ':' })
		if bad || name == "*" && len(names) > 1 {
			return nil, fmt.Errorf("entry %d is no name of a header field: give names, or * alone for all", i+1)
		}
		if !slices.Contains(out, name) {
			out = append(out, name)
		}
	}
	return out, nil
}
