package dispatch

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/net/http/httpguts"

	"github.com/postrider/postrider/store"
)

// Bounds of what a route may say for itself.
const (
	MaxHeaders     = 32
	MaxHeaderBytes = 4 << 10
	MaxTarget      = 2048
)

// CheckHeaders judges a route's own headers as they are saved: names that are tokens
// (RFC 9110 section 5.6.2), values of visible ASCII, space and tab, none of the names we
// set or that belong to the connection. basic says that the target carries credentials,
// which leaves no room for Authorization.
func CheckHeaders(list []store.Header, basic bool) error {
	if len(list) > MaxHeaders {
		return fmt.Errorf("%d headers: at most %d", len(list), MaxHeaders)
	}
	size := 0
	var errs []error
	for i, h := range list {
		v := h.Value.Reveal()
		size += len(h.Key) + len(v)
		switch {
		case !httpguts.ValidHeaderFieldName(h.Key):
			errs = append(errs, fmt.Errorf("header %d: name is not a token", i+1))
		case !visible(v):
			errs = append(errs, fmt.Errorf("header %s: value may hold visible ASCII, space and tab only", h.Key))
		case reserved(h.Key):
			errs = append(errs, fmt.Errorf("header %s is reserved", h.Key))
		case basic && strings.EqualFold(h.Key, "Authorization"):
			errs = append(errs, errors.New("header Authorization beside credentials in the URL"))
		}
	}
	if size > MaxHeaderBytes {
		errs = append(errs, fmt.Errorf("headers have %d bytes together: at most %d", size, MaxHeaderBytes))
	}
	return errors.Join(errs...)
}

func visible(s string) bool {
	for i := range len(s) {
		if c := s[i]; c != '\t' && (c < ' ' || c > '~') {
			return false
		}
	}
	return true
}

// reserved are the names that framing, proxies or we ourselves need.
func reserved(name string) bool {
	n := strings.ToLower(name)
	if slices.Contains([]string{"host", "transfer-encoding", "connection", "upgrade", "trailer", "te", "expect", "keep-alive"}, n) {
		return true
	}
	for _, p := range []string{"content-", "proxy-", "sec-", "webhook-", "x-ee-wh-", "x-postrider-"} {
		if strings.HasPrefix(n, p) {
			return true
		}
	}
	// The names of the signature profile sha256 under its default stem.
	return slices.Contains([]string{"x-webhook-signature", "x-webhook-event", "x-webhook-delivery-id", "x-webhook-attempt"}, n)
}

// target is a webhook URL taken apart: credentials are no part of what is shown.
type target struct {
	url        *url.URL // without userinfo
	user, pass string
	basic      bool
}

// parseTarget takes a webhook URL apart. Its errors never repeat the URL.
func parseTarget(raw string) (target, error) {
	if len(raw) > MaxTarget {
		return target{}, fmt.Errorf("url has %d bytes: at most %d", len(raw), MaxTarget)
	}
	u, err := url.Parse(raw)
	if err != nil {
		return target{}, errors.New("url cannot be read") // the cause repeats it
	}
	if u.Scheme != "http" && u.Scheme != "https" {
		return target{}, errors.New("url must begin with https:// or http://")
	}
	if u.Hostname() == "" || u.Opaque != "" {
		return target{}, errors.New("url has no host")
	}
	t := target{url: u}
	if u.User != nil {
		t.user, t.basic = u.User.Username(), true
		t.pass, _ = u.User.Password()
		u.User = nil
	}
	u.Fragment, u.RawFragment = "", ""
	return t, nil
}

// CheckTarget judges a webhook URL as it is saved. policy is the judgement of the egress
// guard on the URL without credentials; nil = none.
func CheckTarget(raw string, policy func(string) error) error {
	t, err := parseTarget(raw)
	if err != nil {
		return err
	}
	if policy == nil {
		return nil
	}
	return policy(t.url.String())
}

// String is the URL for people: without credentials and without query values.
func (t target) String() string { return redactURL(t.url) }

// letter is what the headers of one request are made of.
type letter struct {
	id        string // of the delivery
	eventID   string
	seq       uint64
	date      time.Time // of the event
	attempt   int       // from 1
	late      bool
	body      []byte
	now       time.Time
	userAgent string
}

// headers are those of one attempt. A route's own come first and cannot replace ours,
// save for User-Agent.
func headers(r store.Route, t target, l letter) (http.Header, error) {
	h := make(http.Header, 16)
	h.Set("User-Agent", l.userAgent)
	for _, own := range r.Headers {
		if !reserved(own.Key) {
			h.Set(own.Key, own.Value.Reveal())
		}
	}
	if t.basic {
		req := http.Request{Header: h}
		req.SetBasicAuth(t.user, t.pass)
	}
	h.Set("Content-Type", "application/json")
	h.Set("X-Postrider-Seq", strconv.FormatUint(l.seq, 10))
	h.Set("X-Postrider-Attempt", strconv.Itoa(l.attempt))
	h.Set("X-Postrider-Hop", "1")
	if l.late {
		h.Set("X-Postrider-Late", "1")
	}
	if slices.Contains(r.Profiles, store.SignStandard) {
		sig, err := SignStandard(l.id, l.now, l.body, r.Secret.Reveal())
		if err != nil {
			return nil, err
		}
		h.Set("webhook-id", l.id)
		h.Set("webhook-timestamp", strconv.FormatInt(l.now.Unix(), 10))
		h.Set("webhook-signature", sig)
	}
	if slices.Contains(r.Profiles, store.SignEmailEngine) {
		queued := max(0, l.now.Sub(l.date)) / time.Second
		h.Set("X-EE-Wh-Event-Id", l.eventID)
		h.Set("X-EE-Wh-Id", l.id)
		h.Set("X-EE-Wh-Attempts-Made", strconv.Itoa(l.attempt-1))
		h.Set("X-EE-Wh-Queued-Time", strconv.FormatInt(int64(queued), 10)+"s")
		if !r.ServiceSecret.Empty() {
			h.Set("X-EE-Wh-Signature", SignService(l.body, r.ServiceSecret.Reveal()))
		}
	}
	return h, nil
}
