package api

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/danielgtaylor/huma/v2"
)

// later are fields that the documentation of this API or of similar products names and
// that this version does not know. They are refused like any unknown field, in words
// that spare the search for a typing error.
var later = map[string]bool{
	"oauth2": true, "proxy": true, "expectedEmail": true, "resyncDelay": true, "useAuthServer": true,
	"trackOpens": true, "trackClicks": true, "reason": true, "limits": true, "ip": true,
	"trackingEnabled": true, "listId": true, "previewText": true, "baseUrl": true, "template": true, "render": true, "mailMerge": true,
	"localAddress": true, "notifyRefusalAsBounce": true,
}

// checker compares a body that parseJSON read with the schema of its route. It stands
// where huma's own validation would, which echoes values and has no codes.
type checker struct {
	schemas huma.Registry
	faults  []Fault
}

func (c *checker) add(at, code, format string, args ...any) {
	c.faults = append(c.faults, Fault{at, code, fmt.Sprintf(format, args...)})
}

// check finds everything about v that s does not allow.
func (c *checker) check(s *huma.Schema, at string, v any) {
	s = c.resolve(s)
	if v == nil && s.Nullable {
		return
	}
	if len(s.OneOf) > 0 {
		c.branch(s, at, v)
		return
	}
	if s.Type == "" { // anything
		return
	}
	if kindOf(v) != s.Type && (s.Type != huma.TypeInteger || kindOf(v) != huma.TypeNumber) {
		c.add(at, "WrongType", "must be %s", article(s.Type))
		return
	}
	switch v := v.(type) {
	case string:
		c.text(s, at, v)
	case json.Number:
		c.number(s, at, v)
	case []any:
		if s.MinItems != nil && len(v) < *s.MinItems {
			c.add(at, "OutOfRange", "must have at least %d elements", *s.MinItems)
		}
		if s.MaxItems != nil && len(v) > *s.MaxItems {
			c.add(at, "OutOfRange", "must have at most %d elements", *s.MaxItems)
			return
		}
		for i, e := range v {
			c.check(s.Items, at+"["+strconv.Itoa(i)+"]", e)
		}
	case map[string]any:
		c.object(s, at, v)
	}
	if len(s.Enum) > 0 && !slices.Contains(s.Enum, v) {
		c.add(at, "Invalid", "must be one of %s", wordsOf(s.Enum))
	}
}

// branch checks v against the one alternative of its kind.
func (c *checker) branch(s *huma.Schema, at string, v any) {
	var kinds []string
	for _, alt := range s.OneOf {
		alt := c.resolve(alt)
		if kindOf(v) == alt.Type || alt.Type == huma.TypeInteger && kindOf(v) == huma.TypeNumber {
			c.check(alt, at, v)
			return
		}
		kinds = append(kinds, article(alt.Type))
	}
	c.add(at, "WrongType", "must be %s", strings.Join(kinds, " or "))
}

func (c *checker) text(s *huma.Schema, at, v string) {
	n := utf8.RuneCountInString(v)
	switch {
	case s.MinLength != nil && n < *s.MinLength:
		c.add(at, "OutOfRange", "must not be empty")
	case s.MaxLength != nil && n > *s.MaxLength:
		c.add(at, "OutOfRange", "must have at most %d characters", *s.MaxLength)
	case strings.ContainsRune(v, 0):
		c.add(at, "NULByte", "must not contain NUL")
	case s.Format == "date-time":
		if t, err := time.Parse(time.RFC3339Nano, v); err != nil || t.UTC().Year() < 0 || t.UTC().Year() > 9999 { // those cannot be stored
			c.add(at, "Invalid", "must be a time like 2026-11-22T08:15:02.417Z, or milliseconds since 1970")
		}
	}
}

func (c *checker) number(s *huma.Schema, at string, v json.Number) {
	f, err := v.Float64()
	if err != nil {
		c.add(at, "OutOfRange", "is out of range")
		return
	}
	if s.Type == huma.TypeInteger {
		if _, err := strconv.ParseInt(v.String(), 10, 64); err != nil {
			c.add(at, "WrongType", "must be an integer")
			return
		}
	}
	low, high := s.Minimum != nil && f < *s.Minimum, s.Maximum != nil && f > *s.Maximum
	switch {
	case (low || high) && s.Minimum != nil && s.Maximum != nil:
		c.add(at, "OutOfRange", "must be %s to %s", digits(*s.Minimum), digits(*s.Maximum))
	case low:
		c.add(at, "OutOfRange", "must be at least %s", digits(*s.Minimum))
	case high:
		c.add(at, "OutOfRange", "must be at most %s", digits(*s.Maximum))
	}
}

// digits writes a number out: 1000000, not 1e+06.
func digits(f float64) string { return strconv.FormatFloat(f, 'f', -1, 64) }

func (c *checker) object(s *huma.Schema, at string, v map[string]any) {
	for _, name := range s.Required {
		if _, ok := v[name]; !ok {
			c.add(at+"."+name, "Required", "is required")
		}
	}
	for _, name := range slices.Sorted(maps.Keys(v)) {
		place := at + "." + placeName(name)
		if prop, ok := s.Properties[name]; ok {
			c.check(prop, place, v[name])
			continue
		}
		if rest, ok := s.AdditionalProperties.(*huma.Schema); ok {
			c.check(rest, place, v[name])
			continue
		}
		if open, _ := s.AdditionalProperties.(bool); open {
			continue
		}
		if later[name] {
			c.add(place, "FieldNotSupported", "is not supported by this version")
		} else if near := nearest(name, slices.Sorted(maps.Keys(s.Properties))); near != "" {
			c.add(place, "Unknown", "is unknown; did you mean %s?", near)
		} else {
			c.add(place, "Unknown", "is unknown")
		}
	}
}

func (c *checker) resolve(s *huma.Schema) *huma.Schema {
	for s.Ref != "" {
		s = c.schemas.SchemaFromRef(s.Ref)
	}
	return s
}

// kindOf is the JSON type of a value, in the words of JSON Schema.
func kindOf(v any) string {
	switch v.(type) {
	case nil:
		return "null"
	case bool:
		return huma.TypeBoolean
	case json.Number:
		return huma.TypeNumber
	case string:
		return huma.TypeString
	case []any:
		return huma.TypeArray
	}
	return huma.TypeObject
}

func article(kind string) string {
	switch kind {
	case "null":
		return "null"
	case huma.TypeArray:
		return "a list"
	case huma.TypeInteger, huma.TypeObject:
		return "an " + kind
	case huma.TypeBoolean:
		return "true or false"
	}
	return "a " + kind
}

func wordsOf(enum []any) string {
	words := make([]string, len(enum))
	for i, e := range enum {
		words[i] = fmt.Sprint(e)
	}
	return strings.Join(words, ", ")
}

// nearest is the name that a mistyped one was probably meant to be, or "".
func nearest(name string, known []string) string {
	if len(name) > 64 || len(known) == 0 {
		return ""
	}
	best := slices.MinFunc(known, func(a, b string) int { return cmp.Compare(distance(name, a), distance(name, b)) })
	if distance(name, best) <= max(1, min(len(name)/2, 2)) {
		return best
	}
	return ""
}

// distance is the number of single-letter edits between two names, letter case aside.
func distance(a, b string) int {
	a, b = strings.ToLower(a), strings.ToLower(b)
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			above := row[j+1]
			cost := 1
			if a[i] == b[j] {
				cost = 0
			}
			row[j+1] = min(above+1, row[j]+1, diagonal+cost)
			diagonal = above
		}
	}
	return row[len(b)]
}
