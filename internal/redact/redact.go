// Package redact keeps credentials out of what is shown of a server's replies: some servers
// repeat what they refuse, cut, folded, in other letters or in a base64 of their own, and
// not in the reply to the login alone.
package redact

import (
	"encoding/base64"
	"strings"
	"unicode"
)

// Most is how many octets of a text are looked at; the rest is not shown.
const Most = 4 << 10

// Redactor hides secrets. Less than half of a short one, and less than six octets of
// another or eight letters of its base64, are not recognized. The zero value hides
// nothing. It never changes and MAY be used by many goroutines at once.
type Redactor struct{ forms []form }

// form is how a secret may be written, as plain makes it.
type form struct {
	text string
	tell int // so many octets of it in a row are not shown
}

// New makes a Redactor, some ten times as large as its secrets. Those of less than four
// octets would make texts unreadable, and stand in some of them by chance.
func New(secrets ...string) (r Redactor) {
	for _, s := range secrets {
		text, _ := plain(s)
		if len(text) < 4 {
			continue
		}
		r.forms = append(r.forms, form{text, min(max(len(text)/2, 4), 6)})
		// Its base64 depends on how many octets stand before it. Letters that are made of
		// those, or of what follows, are left out.
		for before := range 3 {
			in64 := base64.RawStdEncoding.EncodeToString([]byte("\x00\x00"[:before] + s))
			text, _ := plain(in64[(before*8+5)/6 : (before+len(s))*8/6])
			r.forms = append(r.forms, form{text, min(max(len(text)/2, 6), 8, len(text))})
		}
	}
	return r
}

// Hide puts *** for the words of s that show something of a secret, and cuts s off at
// Most octets. It takes time by the length of s and by that of the secrets.
func (r Redactor) Hide(s string) string {
	s = s[:min(len(s), Most)]
	if len(r.forms) == 0 {
		return s
	}
	text, at := plain(s)
	var hidden []bool
	// Of the text's parts, not of a secret's: it is short, tokens are long.
	last, before := map[string]int{}, make([]int, len(text)) // where a part ends last, where it ended before; 0 = nowhere
	for n, f := range r.forms {
		if n == 0 || f.tell != r.forms[n-1].tell {
			clear(last)
			for end := f.tell; end <= len(text); end++ {
				part := text[end-f.tell : end]
				before[end-1], last[part] = last[part], end
			}
		}
		for i := 0; i+f.tell <= len(f.text) && len(last) > 0; i++ {
			part := f.text[i : i+f.tell]
			for end := last[part]; end > 0; end = before[end-1] {
				if hidden == nil {
					hidden = make([]bool, len(s))
				}
				for k := at[end-f.tell]; k <= at[end-1]; k++ {
					hidden[k] = true
				}
			}
			delete(last, part)
		}
	}
	if hidden == nil {
		return s
	}
	return blank(s, hidden)
}

// blank puts *** for what is hidden of s, and for the rest of its words.
func blank(s string, hidden []bool) string {
	var b strings.Builder
	from, word, secret := 0, false, false // what is not written yet
	write := func(to int) {
		if secret {
			b.WriteString("***")
		} else {
			b.WriteString(s[from:to])
		}
		from, secret = to, false
	}
	for i, r := range s {
		if in := hidden[i] || inWord(r); in != word {
			write(i)
			word = in
		}
		secret = secret || hidden[i]
	}
	write(len(s))
	return b.String()
}

// inWord says whether r belongs to a word: of base64, too.
func inWord(r rune) bool {
	return unicode.IsLetter(r) || unicode.IsDigit(r) || strings.ContainsRune("+/=-_", r)
}

// plain writes s so that it can be compared: in lower case, without the spaces that fold it
// and the backslashes that escape it, in one of the two alphabets of base64 (RFC 4648). at
// tells of every octet where in s it comes from.
func plain(s string) (text string, at []int) {
	var b strings.Builder
	b.Grow(len(s))
	at = make([]int, 0, len(s))
	for i, r := range s {
		switch {
		case unicode.IsSpace(r), unicode.IsControl(r), r == '\\':
			continue
		case r == '-':
			r = '+'
		case r == '_':
			r = '/'
		}
		n, _ := b.WriteRune(unicode.ToLower(r))
		for range n {
			at = append(at, i)
		}
	}
	return b.String(), at
}
