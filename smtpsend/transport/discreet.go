package transport

import (
	"encoding/base64"
	"strings"
	"unicode"
)

// discretion keeps credentials out of what is shown of replies: some servers repeat what
// they refuse, cut, folded, in other letters or in a base64 of their own, and not in the
// reply to AUTH alone. Less than half of a short password, and less than six octets of
// another or eight letters of its base64, are not recognized. The zero value hides nothing.
type discretion struct{ forms []form }

// form is how a secret may be written, as plain makes it.
type form struct {
	text string
	tell int // so many octets of it in a row are not shown
}

// discreet hides secrets. Those of less than four octets would make texts unreadable, and
// stand in some of them by chance.
func discreet(secrets ...string) (d discretion) {
	for _, s := range secrets {
		text, _ := plain(s)
		if len(text) < 4 {
			continue
		}
		d.forms = append(d.forms, form{text, min(max(len(text)/2, 4), 6)})
		// Its base64 depends on how many octets stand before it. Letters that are made of
		// those, or of what follows, are left out.
		for before := range 3 {
			in64 := base64.RawStdEncoding.EncodeToString([]byte("\x00\x00"[:before] + s))
			text, _ := plain(in64[(before*8+5)/6 : (before+len(s))*8/6])
			d.forms = append(d.forms, form{text, min(max(len(text)/2, 6), 8, len(text))})
		}
	}
	return d
}

// hide puts *** for the words of s that show something of a secret. It looks at what of s
// can be shown at all.
func (d discretion) hide(s string) string {
	if len(d.forms) == 0 {
		return s
	}
	s = s[:min(len(s), 4*maxLine)]
	text, at := plain(s)
	hidden := make([]bool, len(s))
	for _, f := range d.forms {
		where := map[string][]int{} // of the text's parts of that length: it is short, tokens are long
		for i := 0; i+f.tell <= len(text); i++ {
			where[text[i:i+f.tell]] = append(where[text[i:i+f.tell]], i)
		}
		for i := 0; i+f.tell <= len(f.text) && len(where) > 0; i++ {
			part := f.text[i : i+f.tell]
			for _, from := range where[part] {
				for k := at[from]; k <= at[from+f.tell-1]; k++ {
					hidden[k] = true
				}
			}
			delete(where, part)
		}
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
