package compose

import (
	"strconv"
	"strings"
)

// RFC 5322 section 2.1.1, and RFC 2047 section 2 of lines with encoded words.
const (
	maxLine   = 998
	foldAt    = 78
	foldWords = 76
)

// fields writes a header block. Its methods take checked values: nothing in them ends a
// line.
type fields struct {
	strings.Builder
	column int
	begun  bool // the field has a value
}

func (f *fields) start(name string) {
	f.WriteString(name + ":")
	f.column, f.begun = len(name)+1, false
}

func (f *fields) end() { f.WriteString("\r\n") }

// put writes a token behind a space, on a line of its own where it would reach over at.
func (f *fields) put(token string, at int) { f.run(" "+token, at) }

// run writes spaces and what stands behind them. The first of a field stays on its line if
// it can at all: readers trip over a first line that is empty.
func (f *fields) run(s string, at int) {
	if !f.begun {
		at = maxLine
	}
	if f.column+len(s) > at {
		f.fold()
	}
	f.WriteString(s)
	f.column += len(s)
	f.begun = true
}

// fold begins a line; the space that makes it one of the field's is the next token's.
func (f *fields) fold() {
	f.WriteString("\r\n")
	f.column = 0
}

// line writes a field as it is, in one token.
func (f *fields) line(name, value string) {
	f.start(name)
	f.put(value, maxLine)
	f.end()
}

// text writes unstructured text: as it is where it is ASCII that reads as itself, else in
// encoded words.
func (f *fields) text(name, value string) {
	f.start(name)
	if isSentence(value) {
		for w := range strings.SplitSeq(value, " ") {
			f.put(w, foldAt)
		}
	} else {
		f.words(value)
	}
	f.end()
}

// isSentence says whether s is ASCII words with single spaces, none of which is so long
// that it could not be folded, or reads as an encoded word.
func isSentence(s string) bool {
	if strings.Contains(s, "=?") {
		return false
	}
	for w := range strings.SplitSeq(s, " ") {
		if w == "" || len(w) > 60 || !isGraph(w) {
			return s == ""
		}
	}
	return true
}

// own writes a field of the caller's: ASCII as it is, folded only where it has spaces.
// The value MUST be trimmed, and foldable.
func (f *fields) own(name, value string) {
	f.start(name)
	if isVisible(value) {
		for run, rest := cutRun(" " + value); run != ""; run, rest = cutRun(rest) {
			f.run(run, foldAt)
		}
	} else {
		f.words(value)
	}
	f.end()
}

// cutRun cuts off spaces and the word behind them.
func cutRun(s string) (run, rest string) {
	n := len(s) - len(strings.TrimLeft(s, " \t"))
	if i := strings.IndexAny(s[n:], " \t"); i >= 0 {
		return s[:n+i], s[n+i:]
	}
	return s, ""
}

// isVisible says whether s is ASCII that can be seen, with spaces and tabs.
func isVisible(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return r != '\t' && (r < ' ' || r > '~') })
}

// foldable says whether own can write a value in lines that are short enough.
func foldable(name, value string) bool {
	if !isVisible(value) {
		return true
	}
	used := len(name) + 1
	for run, rest := cutRun(" " + value); run != ""; run, rest = cutRun(rest) {
		if used+len(run) > maxLine {
			return false
		}
		used = 0
	}
	return true
}

// words writes s in encoded words.
func (f *fields) words(s string) {
	const least = 40 // for a shorter word it is not worth to begin here
	room := foldWords - f.column - 1
	if room < least {
		f.fold()
		room = maxWord
	}
	f.begun = true
	for i, w := range words(s, min(room, maxWord)) {
		if i > 0 {
			f.fold()
		}
		f.put(w, foldWords)
	}
}

// addresses writes an address list.
func (f *fields) addresses(name string, list []Address) {
	if len(list) == 0 {
		return
	}
	f.start(name)
	for i, a := range list {
		spec := a.Address
		if a.Name != "" {
			spec = "<" + spec + ">"
		}
		switch name := a.Name; {
		case name == "":
		case isPhrase(name):
			for w := range strings.SplitSeq(name, " ") {
				f.put(w, foldWords)
			}
		case len(name) <= 60 && isASCII(name) && isPrint(name) && !strings.Contains(name, "=?"):
			f.put(quote(name), foldWords)
		default:
			f.words(name)
		}
		if i < len(list)-1 {
			spec += ","
		}
		f.put(spec, foldWords)
	}
	f.end()
}

// isPhrase says whether s needs no quotes as a display name.
func isPhrase(s string) bool {
	return isSentence(s) && !strings.ContainsFunc(s, func(r rune) bool { return r != ' ' && !isAtext(byte(r)) })
}

func quote(s string) string {
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(s) + `"`
}

// ids writes a list of message ids.
func (f *fields) ids(name string, list []string) {
	if len(list) == 0 {
		return
	}
	f.start(name)
	for _, id := range list {
		f.put(id, foldAt)
	}
	f.end()
}

type param struct{ name, value string }

// params writes a value with parameters: RFC 2231 where one is long or not ASCII.
func (f *fields) params(name, value string, list ...param) {
	var tokens []string
	for _, p := range list {
		switch {
		case isToken(p.value) && len(p.value) <= 60:
			tokens = append(tokens, p.name+"="+p.value)
		case isASCII(p.value) && isPrint(p.value) && len(quote(p.value)) <= 62:
			tokens = append(tokens, p.name+"="+quote(p.value))
		default:
			tokens = append(tokens, extended(p)...)
			if p.name == "filename" { // behind it: Python takes what comes first
				tokens = append(tokens, "filename="+quote(plainName(p.value)))
			}
		}
	}
	f.start(name)
	for i, t := range append([]string{value}, tokens...) {
		if i < len(tokens) {
			t += ";"
		}
		f.put(t, foldAt)
	}
	f.end()
}

// extended writes a parameter in the form of RFC 2231, in pieces where it is long. No
// character is cut: some readers decode each piece by itself.
func extended(p param) []string {
	const most = 50 // of a piece; names are short
	var pieces []string
	var b strings.Builder
	for _, r := range strings.ToValidUTF8(p.value, "\uFFFD") {
		var one strings.Builder
		for _, c := range []byte(string(r)) {
			if isAlnum(c) || strings.IndexByte("!#$&+-.^_`{|}~", c) >= 0 {
				one.WriteByte(c)
			} else {
				one.WriteByte('%')
				hex(&one, c)
			}
		}
		if b.Len()+one.Len() > most {
			pieces = append(pieces, b.String())
			b.Reset()
		}
		b.WriteString(one.String())
	}
	pieces = append(pieces, b.String())
	if len(pieces) == 1 {
		return []string{p.name + "*=utf-8''" + pieces[0]}
	}
	for i := range pieces {
		charset := ""
		if i == 0 {
			charset = "utf-8''"
		}
		pieces[i] = p.name + "*" + strconv.Itoa(i) + "*=" + charset + pieces[i]
	}
	return pieces
}

// plainName is a file name for who cannot read the real one: short and ASCII, with its
// extension.
func plainName(s string) string {
	const most = 50
	name := strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' || r == '"' || r == '\\' {
			return '_'
		}
		return r
	}, s)
	if len(name) <= most {
		return name
	}
	extension := ""
	if i := strings.LastIndexByte(name, '.'); i > 0 && len(name)-i <= 12 {
		extension = name[i:]
	}
	return name[:most-len(extension)] + extension
}

// isToken is RFC 2045 section 5.1.
func isToken(s string) bool {
	return s != "" && isGraph(s) && !strings.ContainsAny(s, `()<>@,;:\"/[]?=`)
}
