package wire

import (
	"slices"
	"strconv"
	"strings"
	"unique"

	"github.com/emersion/go-imap/v2"
)

// Caps are a server's capabilities. IMAP4rev2 among them implies nothing.
type Caps struct{ list string } // " IMAP4REV1 IDLE ", upper case: a connection keeps it for days

// maxCaps bounds what is kept of a capability list.
const maxCaps = 200

func parseCaps(b []byte) Caps {
	var out strings.Builder
	out.WriteByte(' ')
	n := 0
	for w := range strings.FieldsSeq(string(b[:min(len(b), 16<<10)])) {
		if len(w) > 64 || strings.ContainsAny(w, `(){}%*"\[]`) || strings.ContainsFunc(w, func(r rune) bool { return r < '!' || r > '~' }) {
			continue // row 2: not an atom
		}
		if n++; n > maxCaps {
			break
		}
		out.WriteString(strings.ToUpper(w))
		out.WriteByte(' ')
	}
	return Caps{unique.Make(out.String()).Value()} // the same for all accounts of a server
}

// Has says whether a capability was advertised.
func (c Caps) Has(name imap.Cap) bool {
	return strings.Contains(c.list, " "+strings.ToUpper(string(name))+" ")
}

// Known says whether the server told its capabilities.
func (c Caps) Known() bool { return len(c.list) > 1 }

// List returns them, to decide by (see Conn.Capabilities), sorted, in upper case but for
// IMAP4rev1 and IMAP4rev2.
func (c Caps) List() []string {
	list := strings.Fields(c.list)
	for i, w := range list {
		if strings.HasPrefix(w, "IMAP4REV") {
			list[i] = "IMAP4rev" + w[len("IMAP4REV"):]
		}
	}
	slices.Sort(list)
	return slices.Compact(list)
}

// AppendLimit is the largest message APPEND takes anywhere (RFC 7889); 0 = not told.
func (c Caps) AppendLimit() int64 {
	_, after, ok := strings.Cut(c.list, " APPENDLIMIT=")
	if !ok {
		return 0
	}
	word, _, _ := strings.Cut(after, " ")
	n, err := strconv.ParseInt(word, 10, 64)
	if err != nil || n < 0 {
		return 0
	}
	return n
}
