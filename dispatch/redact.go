package dispatch

import (
	"errors"
	"net/url"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/postrider/postrider/store"
	"github.com/postrider/postrider/store/secret"
)

// redactURL is a URL that may be shown: no credentials, no query values, no fragment.
func redactURL(u *url.URL) string {
	v := *u
	v.User, v.Fragment, v.RawFragment = nil, "", ""
	if v.RawQuery != "" {
		parts := strings.Split(v.RawQuery, "&")
		for i, p := range parts {
			if name, _, ok := strings.Cut(p, "="); ok {
				parts[i] = name + "=" + secret.Mask
			} else {
				parts[i] = secret.Mask // a bare word may be the token itself
			}
		}
		v.RawQuery = strings.Join(parts, "&")
	}
	return v.String()
}

// secretsOf are the strings of a route that must stand nowhere.
func secretsOf(r store.Route, t target) []string {
	list := []string{r.Secret.Reveal(), r.ServiceSecret.Reveal(), t.pass}
	for _, h := range r.Headers {
		list = append(list, h.Value.Reveal())
	}
	if t.url != nil {
		for _, vs := range t.url.Query() {
			list = append(list, vs...)
		}
	}
	return list
}

// redact takes a route's secrets out of what a receiver or a library said. Values of less
// than four bytes stay: they are no secrets, and their masking would be nonsense.
func redact(s string, secrets []string) string {
	for _, x := range secrets {
		if len(x) >= 4 {
			s = strings.ReplaceAll(s, x, secret.Mask)
		}
	}
	return s
}

// oneLine makes text fit for a list of errors: one line, no control characters, at most n
// bytes of valid UTF-8.
func oneLine(s string, n int) string {
	s = strings.Map(func(r rune) rune {
		if unicode.IsControl(r) || r == utf8.RuneError {
			return ' '
		}
		return r
	}, s)
	s = strings.Join(strings.Fields(s), " ")
	if len(s) <= n {
		return s
	}
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n]
}

// cause is an error without the URL that net/http puts in front of it.
func cause(err error) error {
	if ue, ok := errors.AsType[*url.Error](err); ok {
		return ue.Err
	}
	return err
}
