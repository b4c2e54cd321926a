package api

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/url"
	"reflect"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/postrider/postrider/store/secret"
)

// Opt is a field of a request that may be absent ("not said"), null ("remove") or a
// value.
type Opt[T any] struct {
	Set   bool // it was said
	Null  bool // and it was null
	Value T
}

// UnmarshalJSON is called only for a field that is there.
func (o *Opt[T]) UnmarshalJSON(b []byte) error {
	o.Set = true
	if string(b) == "null" {
		o.Null = true
		return nil
	}
	return json.Unmarshal(b, &o.Value)
}

// Schema is that of T, or null.
func (Opt[T]) Schema(r huma.Registry) *huma.Schema {
	s := r.Schema(reflect.TypeFor[T](), true, "")
	switch {
	case s.Ref != "":
		return &huma.Schema{OneOf: []*huma.Schema{s, {Type: "null"}}}
	case len(s.OneOf) > 0:
		s.OneOf = append(s.OneOf, &huma.Schema{Type: "null"})
	default:
		s.Nullable = true
	}
	return s
}

// into puts a value that was said in its place; null puts zero there.
func (o Opt[T]) into(dst *T) {
	if o.Set {
		*dst = o.Value
	}
}

// Block is an object of a request that false or null removes.
type Block[T any] struct{ Opt[T] }

// UnmarshalJSON reads the object, false or null.
func (o *Block[T]) UnmarshalJSON(b []byte) error {
	if string(b) == "false" {
		b = []byte("null")
	}
	return o.Opt.UnmarshalJSON(b)
}

// Schema is that of T, false or null.
func (o Block[T]) Schema(r huma.Registry) *huma.Schema {
	s := o.Opt.Schema(r)
	s.OneOf = append(s.OneOf, &huma.Schema{Type: huma.TypeBoolean, Enum: []any{false}})
	return s
}

// List is a list of strings that may be given as a single one.
type List []string

// UnmarshalJSON reads a string or a list.
func (l *List) UnmarshalJSON(b []byte) error {
	if bytes.HasPrefix(b, []byte(`"`)) {
		*l = make(List, 1)
		return json.Unmarshal(b, &(*l)[0])
	}
	return json.Unmarshal(b, (*[]string)(l))
}

// Schema is a string or a list of 1 to 1,000.
func (List) Schema(huma.Registry) *huma.Schema {
	one, most := 1, 1000
	return &huma.Schema{OneOf: []*huma.Schema{
		{Type: huma.TypeString, MinLength: &one},
		{Type: huma.TypeArray, MinItems: &one, MaxItems: &most, Items: &huma.Schema{Type: huma.TypeString, MinLength: &one}},
	}}
}

// When is a time in a request: RFC 3339, or milliseconds since 1970.
type When struct{ time.Time }

// UnmarshalJSON reads either form.
func (w *When) UnmarshalJSON(b []byte) error {
	var ms int64
	if json.Unmarshal(b, &ms) == nil {
		w.Time = time.UnixMilli(ms).UTC()
		return nil
	}
	var t time.Time
	if err := json.Unmarshal(b, &t); err != nil {
		return fmt.Errorf("time: %w", err)
	}
	w.Time = t.UTC()
	return nil
}

// Schema is either form; milliseconds up to the year 9999.
func (When) Schema(huma.Registry) *huma.Schema {
	least, most := 0.0, 253402300799999.0
	return &huma.Schema{OneOf: []*huma.Schema{
		{Type: huma.TypeString, Format: "date-time"},
		{Type: huma.TypeInteger, Minimum: &least, Maximum: &most},
	}}
}

// Object is a JSON object that is kept as it came.
type Object json.RawMessage

// UnmarshalJSON keeps a copy.
func (o *Object) UnmarshalJSON(b []byte) error { *o = append((*o)[:0], b...); return nil }

// MarshalJSON gives it back.
func (o Object) MarshalJSON() ([]byte, error) {
	if len(o) == 0 {
		return []byte("null"), nil
	}
	return o, nil
}

// Schema is any object.
func (Object) Schema(huma.Registry) *huma.Schema {
	return &huma.Schema{Type: huma.TypeObject, AdditionalProperties: true}
}

// masked says whether a secret in a request is the mask of an answer.
func masked(t secret.Text) bool { return strings.Contains(t.Reveal(), secret.Mask) }

// maskedAt is the refusal of a mask.
func maskedAt(location string) *Problem {
	return refused(MaskedSecret, Fault{location, "Masked", "is the mask of a secret, not the secret; leave it out to keep what is stored"})
}

// showURL is a URL as answers show it: its password and the values of its query are
// secrets, since receivers put tokens there.
func showURL(t secret.Text) string {
	u, err := url.Parse(t.Reveal())
	if err != nil {
		return t.String()
	}
	shown := u.Scheme + "://"
	if u.User != nil {
		shown += secret.Mask + "@"
	}
	shown += u.Host + u.EscapedPath()
	if u.RawQuery != "" {
		var keys []string
		for pair := range strings.SplitSeq(u.RawQuery, "&") {
			key, _, _ := strings.Cut(pair, "=")
			keys = append(keys, key+"="+secret.Mask)
		}
		shown += "?" + strings.Join(keys, "&")
	}
	return shown
}
