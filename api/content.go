package api

import "github.com/postrider/postrider/store"

// ContentIn are the settings about message content, of the instance or of an account.
type ContentIn struct {
	Text           Opt[bool]     `json:"notifyText,omitempty" doc:"messageNew has the text: text.plain and text.html; default false"`
	TextSize       Opt[int]      `json:"notifyTextSize,omitempty" minimum:"0" maximum:"1048576" doc:"bytes of UTF-8 of each, cut at a character; default 65536"`
	WebSafeHTML    Opt[bool]     `json:"notifyWebSafeHtml,omitempty" doc:"text.html without scripts, forms and foreign styles; acts with notifyText only; default false"`
	HeaderNames    Opt[[]string] `json:"notifyHeaders,omitempty" maxItems:"100" doc:"names of header fields for headers, in any case; * alone means all; default none"`
	Attachments    Opt[bool]     `json:"notifyAttachments,omitempty" doc:"attachments have their content, at most 1 MiB in one event; default false"`
	AttachmentSize Opt[int]      `json:"notifyAttachmentSize,omitempty" minimum:"0" maximum:"1048576" doc:"bytes of the largest attachment whose content is given; default 262144"`
	CalendarEvents Opt[bool]     `json:"notifyCalendarEvents,omitempty" doc:"invitations are read into calendarEvents; default false"`
	Source         Opt[bool]     `json:"notifySource,omitempty" doc:"the whole message as source; default false"`
	SourceSize     Opt[int]      `json:"notifySourceSize,omitempty" minimum:"0" maximum:"10485760" doc:"bytes of the largest message whose source is given; default 1048576"`
}

// ContentOut are the same in an answer.
type ContentOut struct {
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

// apply changes what an account has for itself; null gives it back to the instance.
func (in ContentIn) apply(o *store.ContentOverride) error {
	if in.HeaderNames.Set && !in.HeaderNames.Null {
		names, err := store.HeaderNames(in.HeaderNames.Value)
		if err != nil {
			return invalid("body.notifyHeaders", "Invalid", "%s", err.Error())
		}
		if in.HeaderNames.Value = names; names == nil {
			in.HeaderNames.Value = []string{} // none, whatever the instance has
		}
	}
	in.Text.intoOwn(&o.Text)
	in.TextSize.intoOwn(&o.TextSize)
	in.WebSafeHTML.intoOwn(&o.WebSafeHTML)
	in.HeaderNames.intoOwn(&o.HeaderNames)
	in.Attachments.intoOwn(&o.Attachments)
	in.AttachmentSize.intoOwn(&o.AttachmentSize)
	in.CalendarEvents.intoOwn(&o.CalendarEvents)
	in.Source.intoOwn(&o.Source)
	in.SourceSize.intoOwn(&o.SourceSize)
	return nil
}

// intoOwn puts a value that was said behind a pointer; null takes the pointer away.
func (o Opt[T]) intoOwn(dst **T) {
	switch {
	case o.Null:
		*dst = nil
	case o.Set:
		*dst = &o.Value
	}
}
