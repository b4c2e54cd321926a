package api

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"reflect"
	"strconv"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/postrider/postrider/smtpsend"
	"github.com/postrider/postrider/smtpsend/compose"
	"github.com/postrider/postrider/store"
)

// submitBody is a message to send. The fields are those of the specification of sending;
// what is wrong with a message as such, package compose finds.
type submitBody struct {
	From         Opt[addressIn]           `json:"from,omitempty" doc:"default the account's name and email"`
	To           Opt[Addresses]           `json:"to,omitempty"`
	Cc           Opt[Addresses]           `json:"cc,omitempty"`
	Bcc          Opt[Addresses]           `json:"bcc,omitempty" doc:"never a header field"`
	ReplyTo      Opt[Addresses]           `json:"replyTo,omitempty"`
	Subject      Opt[string]              `json:"subject,omitempty" example:"Hello"`
	Text         Opt[string]              `json:"text,omitempty" doc:"at most 5 MiB" example:"It works."`
	HTML         Opt[string]              `json:"html,omitempty" doc:"at most 5 MiB; gets a text part made of it, unless text is \"\""`
	Attachments  Opt[[]attachmentIn]      `json:"attachments,omitempty" maxItems:"100"`
	Raw          Opt[string]              `json:"raw,omitempty" doc:"base64 of a whole message instead of subject, text, html and attachments; to, cc and bcc beside it are recipients and no fields"`
	Envelope     Opt[envelopeIn]          `json:"envelope,omitempty" doc:"where it really goes; default from the From address to all of to, cc and bcc"`
	Headers      Opt[HeaderFields]        `json:"headers,omitempty" doc:"further fields, in this order: name to a text or a list of them; at most 100, and none that is made otherwise"`
	MessageID    Opt[string]              `json:"messageId,omitempty" doc:"<left@right>; default made up"`
	Reference    Opt[submissionReference] `json:"reference,omitempty" doc:"the message of the mailbox that it answers or forwards"`
	SendAt       Opt[When]                `json:"sendAt,omitempty" doc:"at most a year ahead; the past means now. It becomes the Date field"`
	Attempts     Opt[int]                 `json:"deliveryAttempts,omitempty" minimum:"1" maximum:"50" doc:"tries; default the setting of that name, else as many as retry has"`
	Retry        Opt[Retry]               `json:"retry,omitempty" doc:"when to try again: the name of a preset, or the delays in seconds"`
	Gateway      Opt[string]              `json:"gateway,omitempty" minLength:"1" maxLength:"256" doc:"id of a gateway to send through instead of the account's server"`
	DSN          Opt[dsnIn]               `json:"dsn,omitempty" doc:"delivery reports to ask for (RFC 3461), where the server offers them"`
	RequireTLS   Opt[bool]                `json:"requireTLS,omitempty" doc:"true: every server on the way must use TLS (RFC 8689), else the message fails"`
	Copy         Opt[bool]                `json:"copy,omitempty" doc:"whether to copy it into the Sent folder; default the account's, else where the provider does not do it itself"`
	SentMailPath Opt[string]              `json:"sentMailPath,omitempty" maxLength:"1024" doc:"folder of that copy"`
	Hold         Opt[bool]                `json:"hold,omitempty" doc:"true: it waits, held for review, until it is released"`
	Tag          Opt[string]              `json:"tag,omitempty" maxLength:"128" doc:"yours; in every event about it"`
	Metadata     Opt[Object]              `json:"metadata,omitempty" doc:"yours, at most 2 KiB; in every event about it"`
	OnUnknown    Opt[string]              `json:"onUnknown,omitempty" enum:"hold,resend" doc:"what to do when nobody knows whether the server took it: hold (default), or resend, which accepts a possible duplicate"`
	DryRun       Opt[bool]                `json:"dryRun,omitempty" doc:"true: check and compose it, answer the preview, queue nothing"`
	Locale       Opt[string]              `json:"locale,omitempty" maxLength:"35" doc:"language of the line above a quoted message; default the account's"`
	Timezone     Opt[string]              `json:"tz,omitempty" maxLength:"64" doc:"time zone of that line and of the Date field; default the account's"`
}

type addressIn struct {
	Name    string `json:"name,omitempty" example:"Ada"`
	Address string `json:"address" example:"ada@example.com"`
}

// Addresses are recipients; a single one may stand for a list of one.
type Addresses []addressIn

// UnmarshalJSON reads an object or a list.
func (a *Addresses) UnmarshalJSON(b []byte) error {
	if bytes.HasPrefix(b, []byte(`{`)) {
		*a = make(Addresses, 1)
		return json.Unmarshal(b, &(*a)[0])
	}
	return json.Unmarshal(b, (*[]addressIn)(a))
}

// Schema is an address or a list of them.
func (Addresses) Schema(r huma.Registry) *huma.Schema {
	one := r.Schema(reflect.TypeFor[addressIn](), true, "")
	return &huma.Schema{OneOf: []*huma.Schema{one, {Type: huma.TypeArray, Items: one}}}
}

type attachmentIn struct {
	Filename    Opt[string] `json:"filename,omitempty"`
	ContentType Opt[string] `json:"contentType,omitempty" doc:"default by the file name, else application/octet-stream"`
	Disposition Opt[string] `json:"contentDisposition,omitempty" enum:"attachment,inline" doc:"default inline where there is a cid, else attachment"`
	CID         Opt[string] `json:"cid,omitempty" doc:"content id that the HTML names it by, with or without angle brackets"`
	ContentID   Opt[string] `json:"contentId,omitempty" doc:"another name of cid"`
	Content     Opt[string] `json:"content,omitempty" doc:"base64; this or reference"`
	Reference   Opt[string] `json:"reference,omitempty" maxLength:"1024" doc:"our id of an attachment in this account's mailbox, which is read from there"`
	Encoding    Opt[string] `json:"encoding,omitempty" enum:"base64"`
}

type envelopeIn struct {
	From Opt[string] `json:"from,omitempty" doc:"\"\" is the null sender"`
	To   Opt[List]   `json:"to,omitempty"`
}

type submissionReference struct {
	Message            string      `json:"message" maxLength:"1024" doc:"our id of the message"`
	Action             Opt[string] `json:"action,omitempty" enum:"reply,reply-all,forward" doc:"default reply"`
	Inline             Opt[bool]   `json:"inline,omitempty" doc:"quote it"`
	ForwardAttachments Opt[bool]   `json:"forwardAttachments,omitempty" doc:"when forwarding: its attachments go along"`
	IgnoreMissing      Opt[bool]   `json:"ignoreMissing,omitempty" doc:"send without it, where it is not there"`
	MessageID          Opt[string] `json:"messageId,omitempty" maxLength:"1024" doc:"Message-ID that it must have"`
}

type dsnIn struct {
	ID        Opt[string] `json:"id,omitempty" maxLength:"100" doc:"printable ASCII; default the queueId"`
	Return    Opt[string] `json:"return,omitempty" enum:"headers,full"`
	Notify    Opt[List]   `json:"notify,omitempty" doc:"never, or one or several of success, failure, delay"`
	Recipient Opt[string] `json:"recipient,omitempty" maxLength:"320"`
}

// HeaderFields are the members of headers, in their order.
type HeaderFields []compose.Header

// UnmarshalJSON reads an object whose values are texts or lists of texts.
func (h *HeaderFields) UnmarshalJSON(b []byte) error {
	dec := json.NewDecoder(bytes.NewReader(b))
	if _, err := dec.Token(); err != nil {
		return err
	}
	for dec.More() {
		name, err := dec.Token()
		if err != nil {
			return err
		}
		key, ok := name.(string)
		if !ok {
			return errors.New("headers must be an object")
		}
		var values List
		if err := dec.Decode(&values); err != nil {
			return err
		}
		for _, v := range values {
			*h = append(*h, compose.Header{Name: key, Value: v})
		}
	}
	return nil
}

// Schema is an object of texts and lists of texts.
func (HeaderFields) Schema(huma.Registry) *huma.Schema {
	text := &huma.Schema{Type: huma.TypeString}
	most := 100
	return &huma.Schema{
		Type:                 huma.TypeObject,
		AdditionalProperties: &huma.Schema{OneOf: []*huma.Schema{text, {Type: huma.TypeArray, MaxItems: &most, Items: text}}},
	}
}

// Retry is the name of a preset, or delays in seconds.
type Retry struct {
	Preset string
	Delays []time.Duration
}

// UnmarshalJSON reads either.
func (r *Retry) UnmarshalJSON(b []byte) error {
	if bytes.HasPrefix(b, []byte(`"`)) {
		return json.Unmarshal(b, &r.Preset)
	}
	var seconds []int
	if err := json.Unmarshal(b, &seconds); err != nil {
		return err
	}
	for _, s := range seconds {
		r.Delays = append(r.Delays, time.Duration(s)*time.Second)
	}
	return nil
}

// Schema is either.
func (Retry) Schema(huma.Registry) *huma.Schema {
	least, most, one, many := 1.0, 86400.0, 1, 49
	return &huma.Schema{OneOf: []*huma.Schema{
		{Type: huma.TypeString, Enum: []any{"standard", "quick", "code", "mta"}},
		{Type: huma.TypeArray, MinItems: &one, MaxItems: &many, Items: &huma.Schema{Type: huma.TypeInteger, Minimum: &least, Maximum: &most}},
	}}
}

const (
	maxSubmissionMetadata = 2 << 10
	maxAhead              = 366 * 24 * time.Hour // of sendAt
)

// request is what the engine is asked. texts gives the octets behind a text in base64.
func (b submitBody) request(account store.AccountID, now time.Time, texts func(string) ([]byte, bool)) (smtpsend.Request, error) {
	r := smtpsend.Request{
		Account: account, Attempts: b.Attempts.Value, Preset: b.Retry.Value.Preset, Delays: b.Retry.Value.Delays, Gateway: b.Gateway.Value,
		RequireTLS: b.RequireTLS.Value, SentMailPath: b.SentMailPath.Value, Hold: b.Hold.Value, Tag: b.Tag.Value,
		OnUnknown: b.OnUnknown.Value, Locale: b.Locale.Value, TZ: b.Timezone.Value,
	}
	b.Copy.intoOwn(&r.Copy)
	var faults []Fault
	fault := func(at, code, text string) { faults = append(faults, Fault{at, code, text}) }
	r.Message = b.message(texts, fault)
	if at := b.SendAt.Value.Time; at.After(now.Add(maxAhead)) {
		fault("body.sendAt", "SendAtOutOfRange", "must be at most a year ahead")
	} else if b.SendAt.Set && !b.SendAt.Null {
		r.SendAt = at
	}
	if b.Metadata.Set && !b.Metadata.Null {
		var small bytes.Buffer
		if err := json.Compact(&small, b.Metadata.Value); err != nil || small.Len() > maxSubmissionMetadata {
			fault("body.metadata", "OutOfRange", "must be at most 2048 bytes")
		}
		r.Metadata = small.Bytes()
	}
	if ref := b.Reference.Value; b.Reference.Set && !b.Reference.Null {
		r.Reference = &smtpsend.Reference{
			Message: ref.Message, Action: compose.Action(ref.Action.Value), Inline: ref.Inline.Value, ForwardAttachments: ref.ForwardAttachments.Value,
			IgnoreMissing: ref.IgnoreMissing.Value, MessageID: ref.MessageID.Value,
		}
		if r.Reference.Action == "" {
			r.Reference.Action = compose.Reply
		}
	}
	for i, a := range b.Attachments.Value {
		if id := a.Reference.Value; id != "" {
			r.Attached = append(r.Attached, smtpsend.Attached{At: i, ID: id})
		}
	}
	if b.DSN.Set && !b.DSN.Null {
		r.DSN = b.DSN.Value.dsn(fault)
	}
	for _, f := range []struct {
		at, value string
		check     func(string) error
	}{{"body.locale", r.Locale, store.CheckLocale}, {"body.tz", r.TZ, store.CheckTimezone}} {
		if err := f.check(f.value); err != nil {
			fault(f.at, "Invalid", err.Error())
		}
	}
	if strings.ContainsAny(r.SentMailPath, "\r\n") {
		fault("body.sentMailPath", "HeaderInjection", "must be a single line")
	}
	if len(faults) > 0 {
		return r, refused(ValidationFailed, faults...)
	}
	return r, nil
}

// message is the part of a request that package compose checks.
func (b submitBody) message(texts func(string) ([]byte, bool), fault func(at, code, text string)) compose.Message {
	m := compose.Message{
		From: compose.Address(b.From.Value), To: b.To.Value.list(), Cc: b.Cc.Value.list(), Bcc: b.Bcc.Value.list(), ReplyTo: b.ReplyTo.Value.list(),
		Subject: b.Subject.Value, Headers: b.Headers.Value, MessageID: b.MessageID.Value,
	}
	b.Text.intoOwn(&m.Text)
	b.HTML.intoOwn(&m.HTML)
	if b.Envelope.Set && !b.Envelope.Null {
		m.Envelope = b.envelope(fault)
	}
	if b.Raw.Set && !b.Raw.Null {
		raw, ok := texts(b.Raw.Value)
		switch {
		case !ok:
			fault("body.raw", "Base64Invalid", "must be base64")
		case len(raw) == 0:
			fault("body.raw", "OutOfRange", "must not be empty")
		}
		m.Raw = raw
	}
	for i, a := range b.Attachments.Value {
		at := "body.attachments[" + strconv.Itoa(i) + "]"
		octets, ok := texts(a.Content.Value)
		referred := a.Reference.Set && !a.Reference.Null
		switch {
		case referred && a.Content.Set && !a.Content.Null:
			fault(at+".reference", "ConflictingFields", "has no place beside content: give one of them")
		case referred && a.Reference.Value == "":
			fault(at+".reference", "Invalid", "must not be empty")
		case referred:
		case !a.Content.Set || a.Content.Null:
			fault(at+".content", "Required", "is required, or a reference")
		case !ok:
			fault(at+".content", "Base64Invalid", "must be base64")
		}
		cid := a.CID.Value
		if cid == "" {
			cid = a.ContentID.Value
		} else if a.ContentID.Value != "" && a.ContentID.Value != cid {
			fault(at+".contentId", "ConflictingFields", "is another name of cid; give one of them")
		}
		m.Attachments = append(m.Attachments, compose.Attachment{
			Filename: a.Filename.Value, ContentType: a.ContentType.Value, CID: cid, Size: int64(len(octets)),
			Inline: a.Disposition.Value == "inline" || a.Disposition.Value == "" && cid != "",
			Open:   func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(octets)), nil },
		})
	}
	return m
}

// needsSender says whether the From address, which envelope may be made of, is the account's.
func (b submitBody) needsSender() bool {
	given := func(set, null bool) bool { return set && !null }
	return given(b.Envelope.Set, b.Envelope.Null) && !given(b.From.Set, b.From.Null) && !given(b.Raw.Set, b.Raw.Null)
}

// envelope is the one that was given. A half that was not is as it would be without one,
// where that is known before the message is composed.
func (b submitBody) envelope(fault func(at, code, text string)) *compose.Envelope {
	in, raw := b.Envelope.Value, b.Raw.Set && !b.Raw.Null
	e := &compose.Envelope{From: in.From.Value, To: in.To.Value}
	if !in.From.Set || in.From.Null {
		if e.From = b.From.Value.Address; raw {
			fault("body.envelope.from", "Required", "is required beside raw")
		}
	}
	if !in.To.Set || in.To.Null {
		if raw || b.Reference.Set && !b.Reference.Null {
			fault("body.envelope.to", "Required", "is required beside raw and reference")
		}
		for _, list := range []Addresses{b.To.Value, b.Cc.Value, b.Bcc.Value} {
			for _, a := range list {
				e.To = append(e.To, a.Address)
			}
		}
	}
	return e
}

func (a Addresses) list() (out []compose.Address) {
	for _, one := range a {
		out = append(out, compose.Address(one))
	}
	return out
}

// dsn checks what was asked of delivery reports.
func (in dsnIn) dsn(fault func(at, code, text string)) *store.DSN {
	d := &store.DSN{ID: in.ID.Value, Return: in.Return.Value, Notify: in.Notify.Value, Recipient: in.Recipient.Value}
	for at, text := range map[string]string{"body.dsn.id": d.ID, "body.dsn.recipient": d.Recipient} {
		if strings.ContainsFunc(text, func(r rune) bool { return r < ' ' || r > '~' }) {
			fault(at, "Invalid", "must be printable ASCII")
		}
	}
	for i, n := range d.Notify {
		switch n {
		case "success", "failure", "delay":
		case "never":
			if len(d.Notify) > 1 {
				fault("body.dsn.notify", "ConflictingFields", "never must stand alone")
			}
		default:
			fault("body.dsn.notify["+strconv.Itoa(i)+"]", "Invalid", "must be never, success, failure or delay")
		}
	}
	return d
}
