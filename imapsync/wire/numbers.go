package wire

import (
	"cmp"
	"math"
	"slices"

	"github.com/emersion/go-imap/v2"
)

// numbers parses SEARCH, ESEARCH and VANISHED byte by byte, into ranges, so that a
// list of any length costs what its ranges cost, and no more than max members.
type numbers struct {
	max uint64 // members allowed; set before a command

	kind    byte // 'S', 'E' or 'V'
	ranges  imap.UIDSet
	members uint64
	over    bool // more members than max: ranges were dropped
	bad     bool // something that is no number of a message
	earlier bool // VANISHED (EARLIER)
	uid     bool // ESEARCH UID
	all     bool // ESEARCH had ALL
	count   uint64
	hasN    bool // ESEARCH had COUNT
	modseq  uint64

	key     [16]byte
	keyLen  int
	value   uint64 // of the present number
	digits  int
	first   uint64 // of a range
	colon   bool
	starred bool
	depth   int
	quoted  bool
	escaped bool
	named   key // what the next number of an ESEARCH is
	intro   intro
}

// intro is how much of `* SEARCH` was read: the name may follow the star at once.
type intro uint8

const (
	introDone intro = iota
	introStar       // in the star and what separates it from the name
	introName
)

type key uint8

const (
	keyNone key = iota
	keyAll
	keyCount
	keyModSeq
	keySkip
)

func (n *numbers) begin(kind byte) {
	*n = numbers{max: n.max, kind: kind, ranges: n.ranges[:0]}
	n.intro = introStar
}

// numbersKind says which list of numbers a response is; 0 = none.
func numbersKind(b []byte) byte {
	if len(b) < 2 || b[0] != '*' {
		return 0
	}
	switch word, _ := cutWord(skipSpace(b[1:])); {
	case foldEqual(word, "SEARCH"):
		return 'S'
	case foldEqual(word, "ESEARCH"):
		return 'E'
	case foldEqual(word, "VANISHED"):
		return 'V'
	}
	return 0
}

// feed takes the next bytes of the line.
func (n *numbers) feed(p []byte) {
	i := 0
	for ; i < len(p) && n.intro != introDone; i++ {
		switch inWord := p[i] != '*' && !wordEnds(p[i]) && p[i] != 0; {
		case n.intro == introStar && inWord:
			n.intro = introName
		case n.intro == introName && wordEnds(p[i]):
			n.intro = introDone
			i-- // what ended the name may begin the list
		}
	}
	for ; i < len(p); i++ {
		c := p[i]
		if c >= '0' && c <= '9' && n.depth == 0 && !n.quoted && n.keyLen == 0 {
			if n.value < math.MaxUint64/10-1 {
				n.value = n.value*10 + uint64(c-'0')
			} else {
				n.value = math.MaxUint64
			}
			n.digits++
			continue
		}
		n.byte(c)
	}
}

func (n *numbers) byte(c byte) {
	switch {
	case n.quoted:
		switch {
		case n.escaped:
			n.escaped = false
		case c == '\\':
			n.escaped = true
		case c == '"':
			n.quoted = false
		}
	case c == '"':
		n.quoted = true
	case c == '(':
		n.token()
		n.depth++
	case c == ')':
		n.token()
		n.depth = max(0, n.depth-1)
	case c == ' ' || c == '\r' || c == '\t' || c == 0:
		n.token()
	case n.depth == 0 && n.keyLen == 0 && c == ':' && (n.digits > 0 || n.starred) && !n.colon:
		n.first, n.colon = n.value, true
		n.value, n.digits = 0, 0
	case n.depth == 0 && n.keyLen == 0 && c == ',':
		n.element()
	case n.depth == 0 && n.keyLen == 0 && c == '*':
		n.starred = true
	default:
		if n.keyLen < len(n.key) {
			n.key[n.keyLen] = c
		}
		n.keyLen++
	}
}

// token ends a word or a set.
func (n *numbers) token() {
	if n.keyLen > 0 {
		word := n.key[:min(n.keyLen, len(n.key))]
		n.keyLen = 0
		if n.digits > 0 || n.colon || n.starred { // "12x"
			n.bad = true
			n.clear()
		}
		n.word(word)
		return
	}
	n.element()
}

func (n *numbers) word(w []byte) {
	if n.depth > 0 {
		n.earlier = n.earlier || n.kind == 'V' && foldEqual(w, "EARLIER")
		return
	}
	if n.kind != 'E' {
		n.bad = true
		return
	}
	switch {
	case foldEqual(w, "UID"):
		n.uid = true
	case foldEqual(w, "ALL"):
		n.all, n.named = true, keyAll
	case foldEqual(w, "COUNT"):
		n.named = keyCount
	case foldEqual(w, "MODSEQ"):
		n.named = keyModSeq
	default:
		n.named = keySkip
	}
}

func (n *numbers) clear() {
	n.value, n.digits, n.first, n.colon, n.starred = 0, 0, 0, false, false
}

// element ends one number or range.
func (n *numbers) element() {
	if n.digits == 0 && !n.starred && !n.colon {
		return
	}
	value, first, colon, starred := n.value, n.first, n.colon, n.starred
	n.clear()
	if n.depth > 0 {
		return
	}
	if n.kind == 'E' {
		switch n.named {
		case keyCount:
			n.count, n.hasN = value, true
			return
		case keyModSeq:
			n.modseq = value
			return
		case keyAll:
		default:
			return
		}
	}
	lo, hi := value, value
	if colon {
		lo = first
	}
	if lo > hi {
		lo, hi = hi, lo // RFC 3501 section 9: seq-range in either order
	}
	if starred || lo == 0 || hi > math.MaxUint32 {
		n.bad = true
		return
	}
	n.add(uint32(lo), uint32(hi))
}

func (n *numbers) add(lo, hi uint32) {
	if n.members += uint64(hi-lo) + 1; n.members > n.max && (n.kind != 'V' || uint64(len(n.ranges)) >= n.max) {
		n.over = true
		return
	}
	if k := len(n.ranges); k > 0 && uint64(n.ranges[k-1].Stop)+1 == uint64(lo) {
		n.ranges[k-1].Stop = imap.UID(hi)
		return
	}
	n.ranges = append(n.ranges, imap.UIDRange{Start: imap.UID(lo), Stop: imap.UID(hi)})
}

// end closes the line.
func (n *numbers) end() {
	n.quoted = false
	n.token()
	n.ranges = normal(n.ranges)
}

// normal sorts ranges and joins those that touch.
func normal(set imap.UIDSet) imap.UIDSet {
	ordered := true
	for i := 1; i < len(set); i++ {
		if uint64(set[i].Start) <= uint64(set[i-1].Stop)+1 {
			ordered = false
			break
		}
	}
	if ordered {
		return set
	}
	slices.SortFunc(set, func(a, b imap.UIDRange) int { return cmp.Compare(a.Start, b.Start) })
	out := set[:1]
	for _, r := range set[1:] {
		if last := &out[len(out)-1]; uint64(r.Start) <= uint64(last.Stop)+1 {
			last.Stop = max(last.Stop, r.Stop)
		} else {
			out = append(out, r)
		}
	}
	return out
}

// Count is how many UIDs a static set names.
func Count(set imap.UIDSet) uint64 {
	var n uint64
	for _, r := range set {
		if r.Start != 0 && r.Stop >= r.Start {
			n += uint64(r.Stop-r.Start) + 1
		}
	}
	return n
}

// Highest lists the n highest UIDs of a static, ascending, disjoint set, ascending.
func Highest(set imap.UIDSet, n int) []uint32 {
	var out []uint32
	for _, r := range slices.Backward(set) {
		for uid := r.Stop; uid >= r.Start && uid > 0 && len(out) < n; uid-- {
			out = append(out, uint32(uid))
		}
	}
	slices.Reverse(out)
	return out
}

// Expand lists a static set ascending, each UID once; false, and nothing, when it names
// more than most or is not static. It allocates by most alone.
func Expand(set imap.UIDSet, most uint64) ([]uint32, bool) {
	var n uint64
	for _, r := range set {
		if r.Start == 0 || r.Stop < r.Start {
			return nil, false
		}
		if n += uint64(r.Stop-r.Start) + 1; n > most {
			return nil, false
		}
	}
	if n == 0 {
		return nil, true
	}
	out := make([]uint32, 0, n)
	for _, r := range set {
		for u := uint64(r.Start); u <= uint64(r.Stop); u++ {
			out = append(out, uint32(u))
		}
	}
	slices.Sort(out)
	return slices.Compact(out), true
}
