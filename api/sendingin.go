package api

import (
	"net/mail"
	"net/netip"
	"strconv"

	"github.com/postrider/postrider/store"
)

type smtpIn struct {
	ServerIn
	Host   Opt[string] `json:"host,omitempty" minLength:"1" maxLength:"253" example:"smtp.example.com"`
	Port   Opt[int]    `json:"port,omitempty" minimum:"1" maximum:"65535" doc:"default 465, or 587 without secure" example:"465"`
	Secure Opt[bool]   `json:"secure,omitempty" doc:"true: TLS from the first byte. false: STARTTLS, and nothing sent without it. Default true where the port is 465 or not given"`
}

// server is the server that a request asks for; old is the stored one, or nil.
func (in smtpIn) server(old *store.Server, c Config) (*store.Server, error) {
	return in.serverAt(serverPlace{"body.smtp", "body.smtp.auth"}, old, c)
}

// serverAt is server for a block that stands elsewhere. A server that asks for no login
// needs no auth: it trusts the network that we come from.
func (in smtpIn) serverAt(at serverPlace, old *store.Server, c Config) (*store.Server, error) {
	next, err := in.base(at, old)
	if err != nil {
		return nil, err
	}
	in.Host.into(&next.Host)
	in.Port.into(&next.Port)
	switch {
	case in.Secure.Set && !in.Secure.Null:
		next.Secure = in.Secure.Value
	case in.Secure.Null || !in.Partial || old == nil:
		next.Secure = !next.Plaintext && (next.Port == 465 || next.Port == 0)
	}
	if next.Port == 0 {
		next.Port = 587
		if next.Secure {
			next.Port = 465
		}
	}
	c.AllowPlaintext = c.AllowPlaintext || loopback(next.Host) // nobody is on the way
	return &next, in.judge(at, old, next, c)
}

func loopback(host string) bool {
	addr, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && addr.IsLoopback()
}

// SendingIn are the fields of an account in a request that are about sending.
type SendingIn struct {
	EHLOName   Opt[string]     `json:"smtpEhloName,omitempty" maxLength:"255" doc:"what we call ourselves in EHLO: a host name or an address literal; default the setting of that name, then send.ehloName, then this host's name"`
	Copy       Opt[bool]       `json:"copy,omitempty" doc:"whether sent mail is copied into the Sent folder; null: where the provider does not do it itself"`
	SendLimits Opt[sendLimits] `json:"sendLimits,omitempty" doc:"how much may be sent; limits that are not given are those of the provider's profile, 0 is none. Replaced whole"`
	Aliases    Opt[List]       `json:"aliases,omitempty" doc:"further addresses of its own: left out of the recipients of a reply to all"`
	Locale     Opt[string]     `json:"locale,omitempty" maxLength:"35" doc:"language of texts made for it, like the line above a quoted message; default the setting of that name" example:"en"`
	Timezone   Opt[string]     `json:"tz,omitempty" maxLength:"64" doc:"time zone of those texts; default the setting timezone" example:"Europe/Berlin"`
}

// sendLimits are those of an account, in requests and answers.
type sendLimits struct {
	PerMinute        *int `json:"perMinute,omitempty" minimum:"0" maximum:"1000000" doc:"messages"`
	PerHour          *int `json:"perHour,omitempty" minimum:"0" maximum:"10000000" doc:"messages"`
	PerDay           *int `json:"perDay,omitempty" minimum:"0" maximum:"100000000" doc:"messages"`
	RecipientsPerDay *int `json:"recipientsPerDay,omitempty" minimum:"0" maximum:"1000000000"`
	MaxConnections   *int `json:"maxConnections,omitempty" minimum:"1" maximum:"100" doc:"messages that are handed over at once, by all processes together"`
	MinInterval      *int `json:"minInterval,omitempty" minimum:"0" maximum:"3600000" doc:"milliseconds from one message to the next"`
}

// apply makes the changes that a request asks for.
func (in SendingIn) apply(a *store.Account) error {
	for _, f := range []struct {
		at    string
		check func(string) error
		in    Opt[string]
		dst   *string
	}{
		{"body.smtpEhloName", store.CheckEHLOName, in.EHLOName, &a.SMTPEHLOName},
		{"body.locale", store.CheckLocale, in.Locale, &a.Locale},
		{"body.tz", store.CheckTimezone, in.Timezone, &a.Timezone},
	} {
		if err := f.check(f.in.Value); err != nil {
			return invalid(f.at, "Invalid", "%s", err)
		}
		f.in.into(f.dst)
	}
	in.Copy.intoOwn(&a.Copy)
	if in.SendLimits.Set {
		a.SendLimits = store.SendLimits(in.SendLimits.Value)
	}
	for i, alias := range in.Aliases.Value {
		if got, err := mail.ParseAddress(alias); err != nil || got.Address != alias || len(alias) > 320 {
			return invalid("body.aliases["+strconv.Itoa(i)+"]", "AddressInvalid", "must be an address")
		}
	}
	if in.Aliases.Set {
		a.Aliases = in.Aliases.Value
	}
	return nil
}
