package api

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"unicode/utf8"
)

// The bounds of a JSON body.
const (
	maxDepth    = 32
	maxElements = 10_000 // in one array, or members of one object
)

// parseJSON reads exactly one JSON value, more strictly than encoding/json: no key
// twice, valid UTF-8, nothing after the value, bounded depth and width. Numbers stay
// json.Number. Faults tell where, never what.
func parseJSON(data []byte) (any, *Problem) {
	if !utf8.Valid(data) {
		return nil, refused(InvalidJSON, Fault{"body", "InvalidUTF8", "is not valid UTF-8"})
	}
	if !json.Valid(data) { // the whole grammar, and nothing after it
		at := int64(len(data))
		var v any
		if s, ok := errors.AsType[*json.SyntaxError](json.Unmarshal(data, &v)); ok {
			at = s.Offset
		}
		return nil, refused(InvalidJSON, Fault{"body", "Syntax", fmt.Sprintf("is not JSON, at byte %d", at)})
	}
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.UseNumber()
	v, fault := readValue(dec, "body", 1)
	if fault != nil {
		return nil, refused(InvalidJSON, *fault)
	}
	return v, nil
}

// readValue reads one value; depth is that of the value itself.
func readValue(dec *json.Decoder, path string, depth int) (any, *Fault) {
	tok, err := dec.Token()
	if err != nil {
		return nil, &Fault{path, "Syntax", "is not JSON"}
	}
	open, ok := tok.(json.Delim)
	if !ok {
		return tok, nil
	}
	if depth > maxDepth {
		return nil, &Fault{path, "TooDeep", fmt.Sprintf("is nested more than %d levels deep", maxDepth)}
	}
	if open == '[' {
		list := []any{}
		for dec.More() {
			if len(list) == maxElements {
				return nil, &Fault{path, "TooMany", fmt.Sprintf("has more than %d elements", maxElements)}
			}
			v, fault := readValue(dec, path+"["+strconv.Itoa(len(list))+"]", depth+1)
			if fault != nil {
				return nil, fault
			}
			list = append(list, v)
		}
		return list, closing(dec, path)
	}
	object := map[string]any{}
	for dec.More() {
		tok, err := dec.Token()
		key, ok := tok.(string)
		if err != nil || !ok {
			return nil, &Fault{path, "Syntax", "is not JSON"}
		}
		at := path + "." + placeName(key)
		if _, twice := object[key]; twice {
			return nil, &Fault{at, "Duplicate", "is given twice"}
		}
		if len(object) == maxElements {
			return nil, &Fault{path, "TooMany", fmt.Sprintf("has more than %d members", maxElements)}
		}
		v, fault := readValue(dec, at, depth+1)
		if fault != nil {
			return nil, fault
		}
		object[key] = v
	}
	return object, closing(dec, path)
}

func closing(dec *json.Decoder, path string) *Fault {
	if _, err := dec.Token(); err != nil && !errors.Is(err, io.EOF) {
		return &Fault{path, "Syntax", "is not JSON"}
	}
	return nil
}

// placeName is a member's name as it stands in a location: names are given back, since
// they are no values, but cut and without control characters.
func placeName(key string) string {
	key = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return -1
		}
		return r
	}, key)
	if len(key) > 64 {
		key = strings.ToValidUTF8(key[:64], "") + "…"
	}
	return key
}
