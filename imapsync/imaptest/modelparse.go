package imaptest

import (
	"errors"
	"slices"
	"strconv"
	"strings"
)

// uidRange is a range of UIDs or of sequence numbers, both ends in it.
type uidRange struct{ lo, hi uint32 }

type uidRanges []uidRange

// star is `*` until it is known what that is.
const star = ^uint32(0)

// normal sorts and joins ranges.
func (r uidRanges) normal() uidRanges {
	r = slices.Clone(r)
	slices.SortFunc(r, func(a, b uidRange) int { return int(int64(a.lo) - int64(b.lo)) })
	out := r[:0]
	for _, x := range r {
		if n := len(out); n > 0 && uint64(out[n-1].hi)+1 >= uint64(x.lo) {
			out[n-1].hi = max(out[n-1].hi, x.hi)
			continue
		}
		out = append(out, x)
	}
	return out
}

// within cuts normal ranges to those of another normal set.
func (r uidRanges) within(set uidRanges) uidRanges {
	var out uidRanges
	for i, j := 0, 0; i < len(r) && j < len(set); {
		if lo, hi := max(r[i].lo, set[j].lo), min(r[i].hi, set[j].hi); lo <= hi {
			out = append(out, uidRange{lo, hi})
		}
		if r[i].hi < set[j].hi {
			i++
		} else {
			j++
		}
	}
	return out
}

// resolve puts a number in the place of `*` and makes the set normal.
func (r uidRanges) resolve(last uint32) uidRanges {
	r = slices.Clone(r)
	for i := range r {
		if r[i].lo == star {
			r[i].lo = last
		}
		if r[i].hi == star {
			r[i].hi = last
		}
		if r[i].lo > r[i].hi {
			r[i].lo, r[i].hi = r[i].hi, r[i].lo
		}
	}
	return r.normal()
}

func (r uidRanges) contains(n uint32) bool {
	for _, x := range r {
		if x.lo <= n && n <= x.hi {
			return true
		}
	}
	return false
}

func (r uidRanges) append(b []byte) []byte {
	for i, x := range r {
		if i > 0 {
			b = append(b, ',')
		}
		b = strconv.AppendUint(b, uint64(x.lo), 10)
		if x.hi != x.lo {
			b = strconv.AppendUint(append(b, ':'), uint64(x.hi), 10)
		}
	}
	return b
}

// rangesOf makes ranges of ascending numbers.
func rangesOf(nums []uint32) uidRanges {
	var out uidRanges
	for _, n := range nums {
		if k := len(out); k > 0 && out[k-1].hi+1 == n {
			out[k-1].hi = n
		} else {
			out = append(out, uidRange{n, n})
		}
	}
	return out
}

// inOrder is a set in the order of its numbers, as UIDPLUS wants its pairs.
func inOrder(nums []uint32) string { return string(rangesOf(nums).append(nil)) }

// mParser reads a command; literals stand in it as they came. After its first error it
// reads nothing more.
type mParser struct {
	b   []byte
	i   int
	err error
}

var errSyntax = errors.New("syntax error")

func (p *mParser) fail() { p.err = errSyntax }

func (p *mParser) end() bool { return p.i >= len(p.b) }

func (p *mParser) peek() byte {
	if p.end() || p.err != nil {
		return 0
	}
	return p.b[p.i]
}

// take consumes a byte if it is the next.
func (p *mParser) take(c byte) bool {
	if p.peek() != c || p.err != nil || p.end() {
		return false
	}
	p.i++
	return true
}

func (p *mParser) expect(c byte) {
	if !p.take(c) {
		p.fail()
	}
}

func (p *mParser) sp() { p.expect(' ') }

// done must be at the end.
func (p *mParser) done() bool {
	if !p.end() {
		p.fail()
	}
	return p.err == nil
}

// word reads up to one of the stop bytes.
func (p *mParser) word(stop string) string {
	begin := p.i
	for !p.end() && p.err == nil && p.b[p.i] > ' ' && strings.IndexByte(stop, p.b[p.i]) < 0 {
		p.i++
	}
	if p.i == begin {
		p.fail()
	}
	return string(p.b[begin:p.i])
}

// atom is in capitals: it is compared with names.
func (p *mParser) atom() string { return strings.ToUpper(p.word(`(){"`)) }

// astring reads an atom, a quoted string or a literal.
func (p *mParser) astring() string {
	switch p.peek() {
	case '"':
		p.i++
		var s []byte
		for !p.end() {
			c := p.b[p.i]
			p.i++
			if c == '"' {
				return string(s)
			}
			if c == '\\' && !p.end() {
				c = p.b[p.i]
				p.i++
			}
			s = append(s, c)
		}
		p.fail()
		return ""
	case '{':
		return string(p.literal())
	}
	return p.word(`(){"`)
}

// literal reads `{n}` or `{n+}` and its bytes, which are not copied.
func (p *mParser) literal() []byte {
	p.take('~')
	p.expect('{')
	n := p.number()
	p.take('+')
	p.expect('}')
	p.expect('\r')
	p.expect('\n')
	if p.err != nil || n > uint64(len(p.b)-p.i) {
		p.fail()
		return nil
	}
	lit := p.b[p.i : p.i+int(n)]
	p.i += int(n)
	return lit
}

func (p *mParser) number() uint64 {
	begin := p.i
	for !p.end() && p.b[p.i] >= '0' && p.b[p.i] <= '9' {
		p.i++
	}
	n, err := strconv.ParseUint(string(p.b[begin:p.i]), 10, 64)
	if err != nil {
		p.fail()
	}
	return n
}

// set reads a set of UIDs or sequence numbers.
func (p *mParser) set() uidRanges {
	one := func() uint32 {
		if p.take('*') {
			return star
		}
		n := p.number()
		if n == 0 || n >= uint64(star) {
			p.fail()
		}
		return uint32(n)
	}
	var out uidRanges
	for p.err == nil {
		lo := one()
		hi := lo
		if p.take(':') {
			hi = one()
		}
		out = append(out, uidRange{lo, hi})
		if !p.take(',') {
			break
		}
	}
	return out
}

// list reads `(item item …)`, maybe empty, each by f.
func (p *mParser) list(f func()) {
	p.expect('(')
	if p.take(')') {
		return
	}
	for p.err == nil {
		f()
		if p.take(')') {
			return
		}
		p.sp()
	}
}

// flags reads a list of flags.
func (p *mParser) flags() []string {
	var out []string
	p.list(func() { out = append(out, p.word(`(){"`)) })
	return out
}
