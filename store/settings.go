package store

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/postrider/postrider/events"
	"github.com/postrider/postrider/store/secret"
)

// Settings are what an operator changes while the program runs. The zero value of a
// key that was never set is its default.
type Settings struct {
	Webhooks              secret.Text // URL of the built-in route, which may hold credentials; empty = none
	WebhooksEnabled       bool        // default true
	WebhookEvents         []string    // default ["*"]
	InboxNewOnly          bool
	WebhooksCustomHeaders []Header
	ServiceURL            string      // where this installation is reached; "" = unset
	ServiceSecret         secret.Text // key of the emailengine signature; made at first start
	StallAfter            int         // seconds without proof of life before accountStalled; default 600
	NewFolderLimit        int         // messages a new folder may hold to have all of them announced; default 1000
	AuthFailingDays       int         // days of refused credentials before the account pauses itself; default 3
	NotifyMoves           bool        // a certain move is one messageMoved, a renamed folder one mailboxRenamed
	StoreIdentity         string      // what folder state keeps beside UID and flags: IdentityAuto, the default, …Full or …None
	GmailCategories       bool        // a messageNew in Gmail's inbox has its category
	Content               Content

	DeliveryAttempts int    // of a submission that names none; 0, the default: as many as its retry preset has
	SendLimitWarnAt  int    // percent of an hour or day limit at which sendLimitApproaching says so; default 90
	SendLogDays      int    // days that what was sent is known by its Message-ID; default 90
	SMTPEHLOName     string // what to greet submission servers with; "": as configured
	Locale, Timezone string // of texts made for accounts that have none of their own
}

// The values of Settings.StoreIdentity.
const (
	IdentityAuto = "auto" // the server's ids, where it has them
	IdentityFull = "full" // Message-ID and a fingerprint too
	IdentityNone = "none"
)

// DefaultSettings is what holds where nothing was set.
func DefaultSettings() Settings {
	return Settings{WebhooksEnabled: true, WebhookEvents: []string{"*"}, StallAfter: 600, NewFolderLimit: 1000, AuthFailingDays: 3, StoreIdentity: IdentityAuto, Content: defaultContent(), SendLimitWarnAt: 90, SendLogDays: 90}
}

// SettingError says what is wrong with one setting.
type SettingError struct{ Key, Problem string }

func (e *SettingError) Error() string { return fmt.Sprintf("setting %q: %s", e.Key, e.Problem) }

// settingsFor is how old cached settings may be.
const settingsFor = 5 * time.Second

type settingsCache struct {
	mu    sync.Mutex
	value Settings
	at    time.Time
}

// setting reads and checks one key. secret says that its stored value is sealed.
type setting struct {
	secret bool
	read   func(*Settings, json.RawMessage) error
	show   func(Settings) any
}

// settingKeys are the settings there are.
func settingKeys() map[string]setting {
	keys := map[string]setting{
		"webhooks": {true, func(s *Settings, b json.RawMessage) error {
			var v *string
			if err := strict(b, &v); err != nil {
				return err
			}
			if v != nil && *v != "" {
				if u, err := url.Parse(*v); err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" || len(*v) > 2048 {
					return errors.New("must be an http or https URL of at most 2048 bytes")
				}
				s.Webhooks = secret.New(*v)
				return nil
			}
			s.Webhooks = secret.Text{}
			return nil
		}, func(s Settings) any { return redactURL(s.Webhooks) }},
		"webhooksEnabled": {
			false, func(s *Settings, b json.RawMessage) error { return strict(b, &s.WebhooksEnabled) },
			func(s Settings) any { return s.WebhooksEnabled },
		},
		"webhookEvents": {false, func(s *Settings, b json.RawMessage) error {
			var v []string
			if err := strict(b, &v); err != nil {
				return err
			}
			if len(v) > 200 {
				return errors.New("must be at most 200 names")
			}
			for i, name := range v {
				if !namesEvents(name) {
					return fmt.Errorf("entry %d names no event of this version: give names, *, a beginning like message*, or !name to leave one out", i+1)
				}
			}
			if s.WebhookEvents = v; v == nil { // null: unset, which means all
				s.WebhookEvents = DefaultSettings().WebhookEvents
			}
			return nil
		}, func(s Settings) any { return s.WebhookEvents }},
		"inboxNewOnly": {
			false, func(s *Settings, b json.RawMessage) error { return strict(b, &s.InboxNewOnly) },
			func(s Settings) any { return s.InboxNewOnly },
		},
		"webhooksCustomHeaders": {
			true, func(s *Settings, b json.RawMessage) error { return strict(b, &s.WebhooksCustomHeaders) },
			func(s Settings) any { return s.WebhooksCustomHeaders },
		},
		"serviceUrl": {false, func(s *Settings, b json.RawMessage) error {
			var v *string
			if err := strict(b, &v); err != nil {
				return err
			}
			s.ServiceURL = ""
			if v != nil && *v != "" {
				if u, err := url.Parse(*v); err != nil || u.Host == "" || u.User != nil || u.Scheme != "http" && u.Scheme != "https" || len(*v) > 2048 {
					return errors.New("must be an http or https URL without credentials")
				}
				s.ServiceURL = *v
			}
			return nil
		}, func(s Settings) any { return s.ServiceURL }},
		"serviceSecret": {true, func(s *Settings, b json.RawMessage) error {
			var v string
			if err := strict(b, &v); err != nil {
				return err
			}
			if v == secret.Mask {
				return errors.New("is masked: leave it out to keep it")
			}
			if len(v) < 16 || len(v) > 256 {
				return errors.New("must have 16 to 256 bytes")
			}
			s.ServiceSecret = secret.New(v)
			return nil
		}, func(s Settings) any { return s.ServiceSecret }},
		"stallAfter":      number(60, 86400, func(s *Settings) *int { return &s.StallAfter }),
		"newFolderLimit":  number(0, 1_000_000, func(s *Settings) *int { return &s.NewFolderLimit }),
		"authFailingDays": number(1, 365, func(s *Settings) *int { return &s.AuthFailingDays }),
		"notifyMoves": {
			false, func(s *Settings, b json.RawMessage) error { return strict(b, &s.NotifyMoves) },
			func(s Settings) any { return s.NotifyMoves },
		},
		"storeIdentity": {false, func(s *Settings, b json.RawMessage) error {
			v := IdentityAuto // of null
			if err := strict(b, &v); err != nil {
				return err
			}
			if v != IdentityAuto && v != IdentityFull && v != IdentityNone {
				return errors.New("must be auto, full or none")
			}
			s.StoreIdentity = v
			return nil
		}, func(s Settings) any { return s.StoreIdentity }},
	}
	keys["resolveGmailCategories"] = boolean(func(s *Settings) *bool { return &s.GmailCategories })
	contentKeys(keys)
	sendingKeys(keys)
	return keys
}

// namesEvents says whether a selector (a name, *, name*, or one of them behind !) fits any
// event there is. One that fits none would deliver nothing and say nothing.
func namesEvents(selector string) bool {
	name, prefix := strings.CutSuffix(strings.TrimPrefix(selector, "!"), "*")
	return slices.ContainsFunc(events.All(), func(t events.Type) bool {
		return string(t) == name || prefix && strings.HasPrefix(string(t), name)
	})
}

func number(low, high int, at func(*Settings) *int) setting {
	return setting{false, func(s *Settings, b json.RawMessage) error {
		v := at(s)
		if string(b) == "null" {
			d := DefaultSettings()
			*v = *at(&d)
			return nil
		}
		if err := strict(b, v); err != nil {
			return err
		}
		if *v < low || *v > high {
			return fmt.Errorf("must be %d to %d", low, high)
		}
		return nil
	}, func(s Settings) any { return *at(&s) }}
}

// strict decodes one JSON value and says in plain words what was expected. The value
// itself is not repeated: it may be a secret.
func strict(b json.RawMessage, v any) error {
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.DisallowUnknownFields()
	err := dec.Decode(v)
	if te, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
		return fmt.Errorf("must be a %s, not a %s", te.Type, te.Value)
	}
	if err != nil {
		return errors.New("has the wrong form")
	}
	return nil
}

// redactURL shows a URL without the credentials and the query it may hold.
func redactURL(t secret.Text) string {
	u, err := url.Parse(t.Reveal())
	if err != nil || t.Empty() {
		return t.String()
	}
	if u.User != nil {
		u.User = url.User("******")
	}
	if u.RawQuery != "" {
		u.RawQuery = "******"
	}
	return u.String()
}

// Show gives the settings as the API shows them: secrets masked.
func (s Settings) Show() map[string]any {
	out := map[string]any{}
	for key, def := range settingKeys() {
		out[key] = def.show(s)
	}
	return out
}

// SettingNames lists the keys of all settings, sorted.
func SettingNames() []string { return slices.Sorted(maps.Keys(settingKeys())) }

// Settings reads the settings, at most 5 s old.
func (s *Store) Settings(ctx context.Context) (Settings, error) {
	s.settings.mu.Lock()
	v, at := s.settings.value, s.settings.at
	s.settings.mu.Unlock()
	if !at.IsZero() && time.Since(at) < settingsFor {
		return v, nil
	}
	return s.readSettings(ctx)
}

func (s *Store) readSettings(ctx context.Context) (Settings, error) {
	raw, err := s.rdb.HGetAll(ctx, s.k.settings()).Result()
	if err != nil {
		return Settings{}, unavailable("read settings", err)
	}
	v := DefaultSettings()
	for key, def := range settingKeys() {
		stored, ok := raw[key]
		if !ok {
			continue
		}
		if def.secret {
			t, err := s.ring.Open(stored, "", "settings."+key)
			if err != nil {
				return Settings{}, fmt.Errorf("setting %q: %w", key, err)
			}
			stored = t.Reveal()
		}
		if err := def.read(&v, json.RawMessage(stored)); err != nil {
			// stored by another version: the default holds, and somebody is told
			s.log.Error("stored setting unreadable", "setting", key, "err", err)
		}
	}
	s.settings.mu.Lock()
	s.settings.value, s.settings.at = v, time.Now()
	s.settings.mu.Unlock()
	return v, nil
}

// UpdateSettings writes settings given as JSON, all or none; null takes one back to its
// default. It names what was written, sorted. Errors: *SettingError.
func (s *Store) UpdateSettings(ctx context.Context, values map[string]json.RawMessage) ([]string, error) {
	defs, check := settingKeys(), DefaultSettings()
	var set []any
	var del []string
	for key, b := range values {
		def, ok := defs[key]
		if !ok {
			return nil, &SettingError{key, "there is no such setting"}
		}
		if string(b) == "null" && key != "serviceSecret" {
			del = append(del, key)
			continue
		}
		if err := def.read(&check, b); err != nil {
			return nil, &SettingError{key, err.Error()}
		}
		stored := string(b)
		if def.secret {
			stored = s.ring.Seal(secret.New(stored), "", "settings."+key)
		}
		set = append(set, key, stored)
	}
	_, err := s.rdb.TxPipelined(ctx, func(p redis.Pipeliner) error {
		if len(set) > 0 {
			p.HSet(ctx, s.k.settings(), set...)
		}
		if len(del) > 0 {
			p.HDel(ctx, s.k.settings(), del...)
		}
		return nil
	})
	if err != nil {
		return nil, unavailable("write settings", err)
	}
	s.forgetSettings()
	return slices.Sorted(maps.Keys(values)), nil
}

// forgetSettings makes this process read the settings again at once.
func (s *Store) forgetSettings() {
	s.settings.mu.Lock()
	s.settings.at = time.Time{}
	s.settings.mu.Unlock()
}

// EnsureServiceSecret makes the key of the emailengine signature where there is none.
func (s *Store) EnsureServiceSecret(ctx context.Context) error {
	sealed := s.ring.Seal(secret.New(strconv.Quote(rand.Text()+rand.Text())), "", "settings.serviceSecret")
	if err := s.rdb.HSetNX(ctx, s.k.settings(), "serviceSecret", sealed).Err(); err != nil {
		return unavailable("make service secret", err)
	}
	s.forgetSettings()
	return nil
}
