package api

import (
	"encoding/json"
	"io"
)

// marshalTo writes an answer without escaping <, > and &: answers are no HTML, and events
// are given as the journal has them.
func marshalTo(w io.Writer, v any) error {
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	return enc.Encode(v)
}
