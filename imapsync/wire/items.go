package wire

import (
	"fmt"
	"strconv"
	"strings"
)

// Item is something FETCH is asked for, as it is sent. Their order is the caller's.
type Item string

// The items without arguments; those behind BODYSTRUCTURE MUST be advertised.
const (
	ItemUID           Item = "UID"
	ItemFlags         Item = "FLAGS"
	ItemInternalDate  Item = "INTERNALDATE"
	ItemSize          Item = "RFC822.SIZE"
	ItemEnvelope      Item = "ENVELOPE"
	ItemBodyStructure Item = "BODYSTRUCTURE"
	ItemModSeq        Item = "MODSEQ"      // CONDSTORE
	ItemEmailID       Item = "EMAILID"     // OBJECTID
	ItemThreadID      Item = "THREADID"    // OBJECTID
	ItemGmailMsgID    Item = "X-GM-MSGID"  // X-GM-EXT-1
	ItemGmailThreadID Item = "X-GM-THRID"  // X-GM-EXT-1
	ItemGmailLabels   Item = "X-GM-LABELS" // X-GM-EXT-1
)

// Headers asks for some header fields.
func Headers(fields ...string) Item {
	return Item("BODY.PEEK[HEADER.FIELDS (" + strings.Join(fields, " ") + ")]")
}

// Body asks for a section ("" = the whole message, "HEADER", "1.2", "1.MIME") without
// setting \Seen; size > 0 asks for that many bytes from offset on.
func Body(section string, offset, size int64) Item {
	return Item("BODY.PEEK[" + section + "]" + partial(offset, size))
}

// Binary asks for a part decoded by the server, which MUST have BINARY.
func Binary(part string, offset, size int64) Item {
	return Item("BINARY.PEEK[" + part + "]" + partial(offset, size))
}

func partial(offset, size int64) string {
	if size <= 0 {
		return ""
	}
	return fmt.Sprintf("<%d.%d>", offset, size)
}

// section is a BODY or BINARY item that was asked for, or came.
type section struct {
	item   Item
	name   string // between the brackets, upper case
	binary bool
	origin int64
}

// sectionOf reads an item; ok false: it is none of BODY and BINARY.
func sectionOf(item Item) (section, bool) {
	up := strings.ToUpper(string(item))
	sec := section{item: item}
	head, rest, ok := strings.Cut(up, "[")
	switch strings.TrimSuffix(head, ".PEEK") {
	case "BODY":
	case "BINARY":
		sec.binary = true
	default:
		return sec, false
	}
	i := strings.LastIndexByte(rest, ']')
	if !ok || i < 0 {
		return sec, false
	}
	sec.name = rest[:i]
	if off, _, ok := strings.Cut(strings.TrimPrefix(rest[i+1:], "<"), "."); ok {
		sec.origin, _ = strconv.ParseInt(off, 10, 64)
	}
	return sec, true
}

// checkItems refuses what must not be sent.
func checkItems(items []Item) string {
	if len(items) == 0 {
		return "nothing is asked for"
	}
	for _, it := range items {
		if it == "" || strings.ContainsFunc(string(it), func(r rune) bool { return r < ' ' || r > '~' || r == '{' || r == '"' }) {
			return "item cannot be sent"
		}
	}
	return ""
}
