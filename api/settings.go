package api

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"slices"

	"github.com/danielgtaylor/huma/v2"

	"github.com/postrider/postrider/store"
	"github.com/postrider/postrider/store/secret"
)

// settingsIn are the settings in a request. The fields are those of store.Settings; a
// test compares the names.
type settingsIn struct {
	Webhooks        Opt[string]     `json:"webhooks,omitempty" maxLength:"2048" doc:"URL of the built-in webhook route; null or empty removes it"`
	WebhooksEnabled Opt[bool]       `json:"webhooksEnabled,omitempty" doc:"default true"`
	WebhookEvents   Opt[[]string]   `json:"webhookEvents,omitempty" maxItems:"200" doc:"events for the built-in route; default all, which * stands for"`
	InboxNewOnly    Opt[bool]       `json:"inboxNewOnly,omitempty" doc:"messageNew only where it is in the inbox"`
	Headers         Opt[[]headerIn] `json:"webhooksCustomHeaders,omitempty" maxItems:"50"`
	ServiceURL      Opt[string]     `json:"serviceUrl,omitempty" maxLength:"2048" doc:"where this installation is reached"`
	ServiceSecret   Opt[string]     `json:"serviceSecret,omitempty" minLength:"16" maxLength:"256" writeOnly:"true" doc:"key of the emailengine signature"`
	AuthFailingDays Opt[int]        `json:"authFailingDays,omitempty" minimum:"1" maximum:"365" doc:"days of refused credentials before an account pauses itself; default 3"`

	DeliveryAttempts Opt[int]    `json:"deliveryAttempts,omitempty" minimum:"0" maximum:"50" doc:"tries to send a message that says nothing else; default 0: as many as its retry preset has"`
	SendLimitWarnAt  Opt[int]    `json:"sendLimitWarnAt,omitempty" minimum:"1" maximum:"100" doc:"percent of a send limit at which sendLimitApproaching says so; default 90"`
	SendLogDays      Opt[int]    `json:"sendLogDays,omitempty" minimum:"1" maximum:"3650" doc:"days that what was sent is known by its Message-ID; default 90"`
	SMTPEHLOName     Opt[string] `json:"smtpEhloName,omitempty" maxLength:"255" doc:"what we call ourselves in EHLO; default send.ehloName, then this host's name"`
	Locale           Opt[string] `json:"locale,omitempty" maxLength:"35" doc:"language of texts made for accounts that have none of their own"`
	Timezone         Opt[string] `json:"timezone,omitempty" maxLength:"64" doc:"time zone of those texts; default UTC"`
	WatchingIn
	ContentIn
}

// settingsOut are the settings in an answer; those that were not asked for are absent.
type settingsOut struct {
	Webhooks        *string      `json:"webhooks,omitempty" doc:"password and query values are masked"`
	WebhooksEnabled *bool        `json:"webhooksEnabled,omitempty"`
	WebhookEvents   *[]string    `json:"webhookEvents,omitempty"`
	InboxNewOnly    *bool        `json:"inboxNewOnly,omitempty"`
	Headers         *[]headerOut `json:"webhooksCustomHeaders,omitempty"`
	ServiceURL      *string      `json:"serviceUrl,omitempty"`
	ServiceSecret   *string      `json:"serviceSecret,omitempty" doc:"masked"`
	AuthFailingDays *int         `json:"authFailingDays,omitempty"`

	DeliveryAttempts *int    `json:"deliveryAttempts,omitempty"`
	SendLimitWarnAt  *int    `json:"sendLimitWarnAt,omitempty"`
	SendLogDays      *int    `json:"sendLogDays,omitempty"`
	SMTPEHLOName     *string `json:"smtpEhloName,omitempty"`
	Locale           *string `json:"locale,omitempty"`
	Timezone         *string `json:"timezone,omitempty"`
	WatchingOut
	ContentOut
}

// settingsQuery names the settings that are wanted; none means all.
type settingsQuery struct {
	Webhooks             bool `query:"webhooks"`
	WebhooksEnabled      bool `query:"webhooksEnabled"`
	WebhookEvents        bool `query:"webhookEvents"`
	InboxNewOnly         bool `query:"inboxNewOnly"`
	Headers              bool `query:"webhooksCustomHeaders"`
	ServiceURL           bool `query:"serviceUrl"`
	ServiceSecret        bool `query:"serviceSecret"`
	StallAfter           bool `query:"stallAfter"`
	NewFolderLimit       bool `query:"newFolderLimit"`
	NotifyMoves          bool `query:"notifyMoves"`
	StoreIdentity        bool `query:"storeIdentity"`
	AuthFailingDays      bool `query:"authFailingDays"`
	DeliveryAttempts     bool `query:"deliveryAttempts"`
	SendLimitWarnAt      bool `query:"sendLimitWarnAt"`
	SendLogDays          bool `query:"sendLogDays"`
	SMTPEHLOName         bool `query:"smtpEhloName"`
	Locale               bool `query:"locale"`
	Timezone             bool `query:"timezone"`
	NotifyText           bool `query:"notifyText"`
	NotifyTextSize       bool `query:"notifyTextSize"`
	NotifyWebSafeHTML    bool `query:"notifyWebSafeHtml"`
	NotifyHeaders        bool `query:"notifyHeaders"`
	NotifyAttachments    bool `query:"notifyAttachments"`
	NotifyAttachmentSize bool `query:"notifyAttachmentSize"`
	NotifyCalendarEvents bool `query:"notifyCalendarEvents"`
	NotifySource         bool `query:"notifySource"`
	NotifySourceSize     bool `query:"notifySourceSize"`
	GmailCategories      bool `query:"resolveGmailCategories"`
}

type settingsShown struct {
	Body settingsOut
}

type settingsUpdate struct {
	Body settingsIn
}

type settingsUpdated struct {
	Body updatedBody
}

type updatedBody struct {
	Updated []string `json:"updated" nullable:"false" doc:"names of what was written"`
}

func (s *Server) settingRoutes() {
	register(s, huma.Operation{
		OperationID: "getSettings", Method: http.MethodGet, Path: "/v1/settings", Tags: []string{"settings"},
		Summary: "Read settings", Description: "Those named in the query by true, or all.",
	}, []string{scopeSettings}, s.getSettings)
	register(s, huma.Operation{
		OperationID: "updateSettings", Method: http.MethodPost, Path: "/v1/settings", Tags: []string{"settings"},
		Summary: "Change settings", Description: "All that are given, or none; null gives the default back. They take effect within 5 seconds on all processes.",
	}, []string{scopeSettings}, s.updateSettings)
}

func (s *Server) getSettings(ctx context.Context, q *settingsQuery) (*settingsShown, error) {
	set, err := s.o.Store.Settings(ctx)
	if err != nil {
		return nil, err
	}
	all := *q == settingsQuery{}
	hook, key := showURL(set.Webhooks), set.ServiceSecret.String()
	if set.Webhooks.Empty() {
		hook = ""
	}
	headers := make([]headerOut, 0, len(set.WebhooksCustomHeaders))
	for _, h := range set.WebhooksCustomHeaders {
		headers = append(headers, headerOut{h.Key, h.Value.String()})
	}
	names := slices.Clone(set.WebhookEvents)
	if names == nil {
		names = []string{}
	}
	headerNames := set.Content.Headers
	if headerNames == nil {
		headerNames = []string{}
	}
	return &settingsShown{settingsOut{
		Webhooks:        wanted(all || q.Webhooks, hook),
		WebhooksEnabled: wanted(all || q.WebhooksEnabled, set.WebhooksEnabled),
		WebhookEvents:   wanted(all || q.WebhookEvents, names),
		InboxNewOnly:    wanted(all || q.InboxNewOnly, set.InboxNewOnly),
		Headers:         wanted(all || q.Headers, headers),
		ServiceURL:      wanted(all || q.ServiceURL, set.ServiceURL),
		ServiceSecret:   wanted(all || q.ServiceSecret, key),
		AuthFailingDays: wanted(all || q.AuthFailingDays, set.AuthFailingDays),

		DeliveryAttempts: wanted(all || q.DeliveryAttempts, set.DeliveryAttempts),
		SendLimitWarnAt:  wanted(all || q.SendLimitWarnAt, set.SendLimitWarnAt),
		SendLogDays:      wanted(all || q.SendLogDays, set.SendLogDays),
		SMTPEHLOName:     wanted(all || q.SMTPEHLOName, set.SMTPEHLOName),
		Locale:           wanted(all || q.Locale, set.Locale),
		Timezone:         wanted(all || q.Timezone, set.Timezone),
		WatchingOut: WatchingOut{
			StallAfter:     wanted(all || q.StallAfter, set.StallAfter),
			NewFolderLimit: wanted(all || q.NewFolderLimit, set.NewFolderLimit),
			NotifyMoves:    wanted(all || q.NotifyMoves, set.NotifyMoves),
			StoreIdentity:  wanted(all || q.StoreIdentity, set.StoreIdentity),

			GmailCategories: wanted(all || q.GmailCategories, set.GmailCategories),
		},
		ContentOut: ContentOut{
			Text:           wanted(all || q.NotifyText, set.Content.Text),
			TextSize:       wanted(all || q.NotifyTextSize, set.Content.TextSize),
			WebSafeHTML:    wanted(all || q.NotifyWebSafeHTML, set.Content.WebSafeHTML),
			HeaderNames:    wanted(all || q.NotifyHeaders, headerNames),
			Attachments:    wanted(all || q.NotifyAttachments, set.Content.Attachments),
			AttachmentSize: wanted(all || q.NotifyAttachmentSize, set.Content.AttachmentSize),
			CalendarEvents: wanted(all || q.NotifyCalendarEvents, set.Content.CalendarEvents),
			Source:         wanted(all || q.NotifySource, set.Content.Source),
			SourceSize:     wanted(all || q.NotifySourceSize, set.Content.SourceSize),
		},
	}}, nil
}

func wanted[T any](yes bool, v T) *T {
	if !yes {
		return nil
	}
	return &v
}

func (s *Server) updateSettings(ctx context.Context, in *settingsUpdate) (*settingsUpdated, error) {
	b := in.Body
	if b.Webhooks.Value != "" {
		if err := s.checkTarget("body.webhooks", b.Webhooks.Value); err != nil {
			return nil, err
		}
	}
	if err := s.checkHeaders("body.webhooksCustomHeaders", b.Headers.Value); err != nil {
		return nil, err
	}
	if masked(secret.New(b.ServiceSecret.Value)) {
		return nil, maskedAt("body.serviceSecret")
	}
	if b.ServiceSecret.Null {
		return nil, invalid("body.serviceSecret", "Invalid", "can be changed, not removed")
	}
	values := map[string]json.RawMessage{}
	for name, field := range map[string]interface {
		raw() (json.RawMessage, bool)
	}{
		"webhooks": b.Webhooks, "webhooksEnabled": b.WebhooksEnabled, "webhookEvents": b.WebhookEvents,
		"inboxNewOnly": b.InboxNewOnly, "webhooksCustomHeaders": b.Headers, "serviceUrl": b.ServiceURL,
		"serviceSecret": b.ServiceSecret, "stallAfter": b.StallAfter, "newFolderLimit": b.NewFolderLimit,
		"authFailingDays": b.AuthFailingDays, "notifyMoves": b.NotifyMoves, "storeIdentity": b.StoreIdentity,
		"deliveryAttempts": b.DeliveryAttempts, "sendLimitWarnAt": b.SendLimitWarnAt, "sendLogDays": b.SendLogDays,
		"smtpEhloName": b.SMTPEHLOName, "locale": b.Locale, "timezone": b.Timezone,
		"notifyText": b.Text, "notifyTextSize": b.TextSize, "notifyWebSafeHtml": b.WebSafeHTML,
		"notifyHeaders": b.HeaderNames, "notifyAttachments": b.Attachments, "notifyAttachmentSize": b.AttachmentSize,
		"notifyCalendarEvents": b.CalendarEvents, "notifySource": b.Source, "notifySourceSize": b.SourceSize,
		"resolveGmailCategories": b.GmailCategories,
	} {
		if raw, ok := field.raw(); ok {
			values[name] = raw
		}
	}
	updated, err := s.o.Store.UpdateSettings(ctx, values)
	if bad, ok := errors.AsType[*store.SettingError](err); ok {
		return nil, invalid("body."+bad.Key, "Invalid", "%s", bad.Problem)
	}
	if err != nil {
		return nil, err
	}
	if updated == nil {
		updated = []string{}
	}
	return &settingsUpdated{updatedBody{updated}}, nil
}

// raw is the JSON of a value that was said.
func (o Opt[T]) raw() (json.RawMessage, bool) {
	if !o.Set {
		return nil, false
	}
	if o.Null {
		return json.RawMessage("null"), true
	}
	b, err := json.Marshal(o.Value)
	return b, err == nil
}
