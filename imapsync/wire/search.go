package wire

import (
	"context"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/emersion/go-imap/v2"
)

// Found is the answer to a search.
type Found struct {
	UIDs imap.UIDSet // static, ascending, disjoint
	// Complete: tagged OK without a code that limits the answer, every number readable,
	// no more of them than can be, and an answer that came at all.
	Complete bool
	Code     imap.ResponseCode
}

// Search runs UID SEARCH; extended asks with RETURN (ALL), which MUST be advertised
// (ESEARCH). Criteria with sequence numbers are refused. What a server's limit leaves out
// (RFC 9738) is searched in further commands.
func (c *Conn) Search(ctx context.Context, criteria *imap.SearchCriteria, extended bool) (Found, error) {
	return c.find(ctx, query{SearchCriteria: *criteria}, extended)
}

// SearchGmail runs UID SEARCH for those messages of set that Gmail's own search finds by
// text (X-GM-RAW, which X-GM-EXT-1 brings). set MUST be static.
func (c *Conn) SearchGmail(ctx context.Context, set imap.UIDSet, text string) (Found, error) {
	return c.find(ctx, query{SearchCriteria: imap.SearchCriteria{UID: []imap.UIDSet{set}}, gmail: text}, false)
}

// query is what is searched for.
type query struct {
	imap.SearchCriteria
	gmail string // X-GM-RAW; "" = nothing
}

func (c *Conn) find(ctx context.Context, criteria query, extended bool) (Found, error) {
	var out Found
	q, among := criteria, imap.UIDSet{{Start: 1}}
	if len(q.UID) == 1 {
		among, q.UID = q.UID[0], nil
	}
	bad, first := false, true
	res, err := askOn(among, true, func(part imap.UIDSet) (Result, seen, error) {
		asked := q
		if asked.UID = append(slices.Clone(q.UID), part); first {
			asked = criteria
		}
		first = false
		return c.search(ctx, &asked, extended, part, &out, &bad)
	})
	if err != nil {
		return Found{}, err
	}
	out.UIDs = normal(out.UIDs)
	out.Code = res.Code
	// RFC 3501 section 6.4.4: a SEARCH that finds nothing still answers; some say nothing.
	out.Complete = !bad && !res.Partial()
	return out, nil
}

// search runs one UID SEARCH and adds what it finds. It says what of it is among the UIDs
// that are asked about.
func (c *Conn) search(ctx context.Context, q *query, extended bool, among imap.UIDSet, out *Found, bad *bool) (Result, seen, error) {
	var came seen
	k := c.command("UID SEARCH")
	if extended {
		k.arg("RETURN (ALL)")
	}
	if criteriaCharset(&q.SearchCriteria) || isWide(q.gmail) {
		k.arg("CHARSET UTF-8")
	}
	begin := len(k.buf)
	k.criteria(&q.SearchCriteria, 0)
	if q.gmail != "" {
		k.arg("X-GM-RAW").str(q.gmail)
	}
	everything := string(k.buf[begin:]) == " ALL"
	if len(k.buf) > maxCommand {
		k.refuse("search is too long")
	}
	k.first = c.lim.FirstSlow
	k.on = func(r *response) bool {
		kind := numbersKind(r.b)
		if kind != 'S' && kind != 'E' {
			return false
		}
		n := c.takeNumbers(r)
		*bad = *bad || n.bad || n.over
		// Row 59: no ALL says that nothing was found (RFC 4731 section 3.1), which is not
		// so where all was asked for and there are messages.
		*bad = *bad || kind == 'E' && (n.hasN && n.count != n.members || everything && !n.all && c.folder.Exists > 0)
		if Count(out.UIDs)+n.members > c.rd.nums.max {
			*bad = true
			return true
		}
		for _, found := range n.ranges {
			for _, r := range cut(among, found.Start, found.Stop) {
				came.add(r.Start, r.Stop)
			}
		}
		out.UIDs = append(out.UIDs, n.ranges...)
		return true
	}
	res, err := k.run(ctx)
	c.rd.nums.ranges = nil
	return res, came, err
}

// criteriaCharset says whether a string beyond ASCII is searched for.
func criteriaCharset(q *imap.SearchCriteria) bool {
	for _, h := range q.Header {
		if isWide(h.Value) {
			return true
		}
	}
	if slices.ContainsFunc(append(append([]string(nil), q.Body...), q.Text...), isWide) {
		return true
	}
	for i := range q.Not {
		if criteriaCharset(&q.Not[i]) {
			return true
		}
	}
	for i := range q.Or {
		if criteriaCharset(&q.Or[i][0]) || criteriaCharset(&q.Or[i][1]) {
			return true
		}
	}
	return false
}

func isWide(s string) bool { return strings.ContainsFunc(s, func(r rune) bool { return r > '~' }) }

// criteria appends what is searched for; nothing is ALL.
func (k *command) criteria(q *imap.SearchCriteria, depth int) {
	if depth > 20 || len(q.SeqNum) > 0 {
		k.refuse("search cannot be sent")
		return
	}
	begin := len(k.buf)
	for _, set := range q.UID {
		k.arg("UID").set(set)
	}
	date := func(name string, t time.Time) {
		if !t.IsZero() {
			k.arg(name + " " + t.Format("2-Jan-2006"))
		}
	}
	date("SINCE", q.Since)
	date("BEFORE", q.Before)
	date("SENTSINCE", q.SentSince)
	date("SENTBEFORE", q.SentBefore)
	for _, h := range q.Header {
		k.arg("HEADER").str(h.Key).str(h.Value)
	}
	for _, s := range q.Body {
		k.arg("BODY").str(s)
	}
	for _, s := range q.Text {
		k.arg("TEXT").str(s)
	}
	for _, f := range q.Flag {
		k.flagKey("", f)
	}
	for _, f := range q.NotFlag {
		k.flagKey("UN", f)
	}
	if q.Larger > 0 {
		k.arg("LARGER " + strconv.FormatInt(q.Larger, 10))
	}
	if q.Smaller > 0 {
		k.arg("SMALLER " + strconv.FormatInt(q.Smaller, 10))
	}
	if q.ModSeq != nil {
		k.arg("MODSEQ " + strconv.FormatUint(q.ModSeq.ModSeq, 10))
	}
	for i := range q.Not {
		k.arg("NOT")
		k.group(&q.Not[i], depth)
	}
	for i := range q.Or {
		k.arg("OR")
		k.group(&q.Or[i][0], depth)
		k.group(&q.Or[i][1], depth)
	}
	if len(k.buf) == begin {
		k.arg("ALL")
	}
}

// group appends criteria in parentheses.
func (k *command) group(q *imap.SearchCriteria, depth int) {
	k.buf = append(k.buf, ' ', '(')
	begin := len(k.buf)
	k.criteria(q, depth+1)
	if begin < len(k.buf) { // the space behind the parenthesis
		k.buf = append(k.buf[:begin], k.buf[begin+1:]...)
		for i := range k.syncs {
			if k.syncs[i] > begin {
				k.syncs[i]--
			}
		}
	}
	k.buf = append(k.buf, ')')
}

func (k *command) flagKey(not string, f imap.Flag) {
	if !isFlag(string(f)) {
		k.refuse("flag cannot be sent")
		return
	}
	for _, s := range systemFlags[:5] {
		if strings.EqualFold(string(s), string(f)) {
			k.arg(not + strings.ToUpper(string(s[1:])))
			return
		}
	}
	k.arg(not + "KEYWORD " + string(f))
}
