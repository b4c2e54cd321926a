package events

import (
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
)

// Schema gives the JSON Schema (draft 2020-12) of an event's whole envelope, made from
// the Go types. It is open for additions: fields that are not named are allowed, and
// lists of string values are open. Its bytes are a function of the types.
func Schema(t Type) ([]byte, error) {
	p := payloadOf(t)
	if p == nil {
		return nil, fmt.Errorf("event %q: unknown type", t)
	}
	null := []string{"string", "null"}
	return marshal(object{
		{"$schema", "https://json-schema.org/draft/2020-12/schema"},
		{"title", string(t)},
		{"type", "object"},
		{"properties", object{
			{"serviceUrl", object{{"type", null}}},
			{"account", object{{"type", null}, {"minLength", 1}, {"maxLength", 256}}},
			{"date", timeSchema()},
			{"path", object{{"type", "string"}, {"minLength", 1}}},
			{"specialUse", object{{"type", "string"}, {"minLength", 1}}},
			{"event", object{{"const", string(t)}}},
			{"eventId", object{{"type", "string"}, {"pattern", "^evt_(test_)?[a-z2-7]{1,26}$"}}},
			{"seq", object{{"type", "integer"}, {"minimum", 0}}},
			{"data", schemaOf(reflect.TypeOf(p))},
		}},
		{"required", []string{"serviceUrl", "account", "date", "event", "eventId", "seq", "data"}},
	})
}

// object is a JSON object whose keys stay in order.
type object []member

type member struct {
	key   string
	value any
}

// MarshalJSON writes the members in their order.
func (o object) MarshalJSON() ([]byte, error) {
	b := []byte{'{'}
	for i, m := range o {
		if i > 0 {
			b = append(b, ',')
		}
		k, err := marshal(m.key)
		if err != nil {
			return nil, err
		}
		v, err := marshal(m.value)
		if err != nil {
			return nil, err
		}
		b = append(append(append(b, k...), ':'), v...)
	}
	return append(b, '}'), nil
}

func timeSchema() object {
	return object{{"type", "string"}, {"pattern", `^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$`}}
}

// schemaOf describes the JSON of a Go type. A type that it does not know is a mistake
// of ours, which the test of all schemas finds.
func schemaOf(t reflect.Type) object {
	switch t {
	case reflect.TypeFor[Time]():
		return timeSchema()
	case reflect.TypeFor[TimeOrFalse]():
		return object{{"anyOf", []object{timeSchema(), {{"const", false}}}}}
	case reflect.TypeFor[json.RawMessage]():
		return object{{"type", "object"}}
	case reflect.TypeFor[Role](), reflect.TypeFor[UIDValidity]():
		return object{{"anyOf", []object{{{"type", "string"}, {"minLength", 1}}, {{"const", false}}}}}
	}
	switch t.Kind() {
	case reflect.Pointer:
		return schemaOf(t.Elem())
	case reflect.String:
		return object{{"type", "string"}}
	case reflect.Bool:
		return object{{"type", "boolean"}}
	case reflect.Int, reflect.Int64:
		return object{{"type", "integer"}}
	case reflect.Uint32, reflect.Uint64:
		return object{{"type", "integer"}, {"minimum", 0}}
	case reflect.Slice:
		return object{{"type", "array"}, {"items", schemaOf(t.Elem())}}
	case reflect.Map:
		return object{{"type", "object"}, {"additionalProperties", schemaOf(t.Elem())}}
	case reflect.Struct:
		properties, required := object{}, []string{}
		for _, f := range reflect.VisibleFields(t) {
			if f.Anonymous {
				continue // its fields stand among the visible ones
			}
			name, options, _ := strings.Cut(f.Tag.Get("json"), ",")
			properties = append(properties, member{name, schemaOf(f.Type)})
			if !strings.Contains(options, "omitempty") && !strings.Contains(options, "omitzero") {
				required = append(required, name)
			}
		}
		return object{{"type", "object"}, {"properties", properties}, {"required", required}}
	}
	panic(fmt.Sprintf("events: no schema for %s", t))
}
