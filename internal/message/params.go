package message

import (
	"maps"
	"slices"
	"strconv"
	"strings"
)

// maxParams bounds the parameters of one field that are read.
const maxParams = 100

// Params reads a value with parameters, such as `text/plain; charset="utf-8"`. The value
// is in lower case, as are the names; RFC 2231 (charsets, pieces) and encoded words are
// decoded. Of parameters with one name the first counts.
func Params(v string, w *Warnings) (value string, params map[string]string) {
	value, rest, _ := strings.Cut(v, ";")
	value = Clean(strings.ToLower(strings.TrimSpace(value)))
	var list []param
	for n := 0; rest != "" && n < maxParams; n++ {
		var one string
		one, rest = cutParam(rest)
		name, text, ok := strings.Cut(one, "=")
		if !ok {
			continue
		}
		if text = strings.TrimSpace(text); strings.HasPrefix(text, `"`) {
			text = unquote(text)
		}
		list = append(list, param{name, text})
	}
	return value, decodeParams(list, w)
}

// DecodeParams decodes parameters that a server took apart without decoding them.
func DecodeParams(in map[string]string, w *Warnings) map[string]string {
	list := make([]param, 0, min(len(in), maxParams))
	for _, name := range slices.Sorted(maps.Keys(in)) {
		if len(list) < maxParams {
			list = append(list, param{name, in[name]})
		}
	}
	return decodeParams(list, w)
}

type param struct{ name, text string }

// decodeParams puts pieces together (RFC 2231) and decodes.
func decodeParams(list []param, w *Warnings) map[string]string {
	type piece struct {
		n       int
		encoded bool
		text    string
	}
	pieces, params := map[string][]piece{}, map[string]string{}
	for _, p := range list {
		name := Clean(strings.ToLower(strings.TrimSpace(p.name)))
		base, star, extended := strings.Cut(name, "*")
		if base == "" {
			continue
		}
		if !extended {
			if _, there := params[name]; !there {
				params[name] = Words(p.text, w)
			}
			continue
		}
		it := piece{text: p.text}
		if star, it.encoded = strings.CutSuffix(star, "*"); star != "" {
			i, err := strconv.Atoi(star)
			if err != nil {
				continue
			}
			it.n = i
		} else {
			it.encoded = true
		}
		pieces[base] = append(pieces[base], it)
	}
	for name, list := range pieces {
		slices.SortStableFunc(list, func(a, b piece) int { return a.n - b.n })
		var data []byte
		charset := ""
		for i, p := range list {
			if !p.encoded {
				data = append(data, p.text...)
				continue
			}
			text := p.text
			if i == 0 {
				if c, behind, ok := strings.Cut(text, "'"); ok {
					if _, last, ok := strings.Cut(behind, "'"); ok {
						charset, text = c, last
					}
				}
			}
			data = append(data, unpercent(text)...)
		}
		text, ok := convert(charset, data)
		if !ok {
			w.named("charset", charset)
			text = string(data)
		}
		params[name] = Clean(text) // goes before a plain parameter, which is for the old
	}
	return params
}

// cutParam cuts off what stands before the next semicolon outside quotes.
func cutParam(s string) (one, rest string) {
	quoted := false
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c == '\\' && quoted:
			i++
		case c == '"':
			quoted = !quoted
		case c == ';' && !quoted:
			return s[:i], s[i+1:]
		}
	}
	if quoted { // a quote that never closes ends at the next semicolon
		one, rest, _ = strings.Cut(s, ";")
		return one, rest
	}
	return s, ""
}

func unpercent(s string) []byte {
	out := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		if s[i] == '%' && i+2 < len(s) && unhex(s[i+1]) < 16 && unhex(s[i+2]) < 16 {
			out = append(out, unhex(s[i+1])<<4|unhex(s[i+2]))
			i += 2
			continue
		}
		out = append(out, s[i])
	}
	return out
}
