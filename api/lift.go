package api

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"strconv"
)

// lifted is a text in base64 that stood in a body: its octets, in the memory of the body.
type lifted struct {
	octets []byte
	bad    bool // it was not base64
}

// lift takes the large texts of a submission out of its JSON, so that they are neither
// copied nor parsed: those at raw and attachments[].content are decoded where they stand,
// which destroys body. In rest, the JSON that remains, marks stand in their place: mark,
// which nobody can guess, and the index in texts. What is no JSON stays none. It reports
// false when rest would be over most bytes.
func lift(body []byte, mark string, most int) (rest []byte, texts []lifted, ok bool) {
	type frame struct {
		array bool
		key   string // of an object: the last that was read
		value bool   // of an object: a value comes next
	}
	var stack []frame
	wanted := func() bool {
		switch n := len(stack); {
		case n == 1:
			return stack[0].key == "raw"
		case n == 3:
			return stack[0].key == "attachments" && stack[1].array && stack[2].key == "content"
		}
		return false
	}
	done := 0 // of body, what is in rest
	for i := 0; i < len(body); {
		top := len(stack) - 1
		switch body[i] {
		case '{', '[':
			if len(stack) > maxDepth { // refused by whoever parses rest
				return append(rest, body[done:]...), texts, len(rest)+len(body)-done <= most
			}
			stack = append(stack, frame{array: body[i] == '['})
		case '}', ']':
			if top >= 0 {
				stack = stack[:top]
			}
		case ',':
			if top >= 0 {
				stack[top].value = false
			}
		case ':':
			if top >= 0 {
				stack[top].value = true
			}
		case '"':
			end := i + textEnd(body[i:])
			switch {
			case top < 0 || stack[top].array:
			case !stack[top].value:
				stack[top].key = keyOf(body[i:end])
			case wanted() && end-i >= 2 && len(texts) < maxElements:
				rest = append(rest, body[done:i]...)
				rest = append(rest, `"`+mark+strconv.Itoa(len(texts))+`"`...)
				octets, good := decodeHere(body[i+1 : end-1])
				texts = append(texts, lifted{octets, !good})
				done = end
			}
			if len(rest)+i-done > most {
				return nil, nil, false
			}
			i = end
			continue
		}
		i++
	}
	return append(rest, body[done:]...), texts, len(rest)+len(body)-done <= most
}

// textEnd is where the JSON text at the beginning of b ends; len(b) for one that does not.
func textEnd(b []byte) int {
	for from := 1; ; {
		n := bytes.IndexByte(b[from:], '"')
		if n < 0 {
			return len(b)
		}
		end, slashes := from+n, 0
		for b[end-1-slashes] == '\\' { // ends at the opening quote
			slashes++
		}
		if from = end + 1; slashes%2 == 0 {
			return from
		}
	}
}

// keyOf reads the name of a member; what is none has the name "".
func keyOf(text []byte) string {
	var key string
	if len(text) <= 128 { // those that we look for are short, however they are escaped
		_ = json.Unmarshal(text, &key)
	}
	return key
}

// decodeHere decodes base64 as it stands in JSON, between its quotes, into its own memory.
// Line breaks and missing padding are forgiven.
func decodeHere(b []byte) (octets []byte, ok bool) {
	b = unescapeHere(b)
	if b == nil {
		return nil, false
	}
	if len(b)%4 == 0 {
		for range 2 {
			b = bytes.TrimSuffix(b, []byte("="))
		}
	}
	var piece [3 * 1024]byte // package base64 promises nothing of decoding in place
	n := 0
	for from := 0; from < len(b); {
		to := min(from+4*1024, len(b))
		got, err := base64.RawStdEncoding.Decode(piece[:], b[from:to])
		if err != nil {
			return nil, false
		}
		n += copy(b[n:], piece[:got])
		from = to
	}
	return b[:n], true
}

// unescapeHere undoes the escapes that JSON may use in base64 and leaves out white space;
// nil means that something else stood there.
func unescapeHere(b []byte) []byte {
	n := 0
	for i := 0; i < len(b); i++ {
		c := b[i]
		if c < ' ' || c > '~' {
			return nil
		}
		if c == '\\' {
			if i++; i == len(b) {
				return nil
			}
			switch c = b[i]; c {
			case '/':
			case 'n', 'r', 't':
				continue
			case 'u':
				if len(b)-i < 5 {
					return nil
				}
				v, err := strconv.ParseUint(string(b[i+1:i+5]), 16, 16)
				if err != nil || v > 0x7f {
					return nil
				}
				c, i = byte(v), i+4
			default:
				return nil
			}
		}
		if c != ' ' && c != '\n' && c != '\r' && c != '\t' {
			b[n] = c
			n++
		}
	}
	return b[:n:n]
}
