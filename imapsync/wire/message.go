package wire

import (
	"time"

	"github.com/emersion/go-imap/v2"
)

// Message is one FETCH response. It and what it holds are valid until the callback
// returns; its strings may share memory with the whole response: clone what is kept
// for long. A message may come in several responses: join them by UID.
type Message struct {
	Seq uint32
	UID imap.UID

	Flags        []imap.Flag // without \Recent, system flags as in RFC 3501; shared: do not change
	HasFlags     bool        // false: FLAGS did not come, which is not "no flags"
	InternalDate time.Time   // zero = did not come
	Size         int64       // RFC822.SIZE
	HasSize      bool
	ModSeq       uint64 // 0 = did not come
	EmailID      string
	ThreadID     string
	GmailMsgID   uint64
	GmailThread  uint64
	Labels       []string // of Gmail, unescaped: `\Inbox`, `work`
	HasLabels    bool

	Envelope  *Envelope          // nil = did not come
	Structure imap.BodyStructure // nil = did not come
	// PartSizes are sizes beyond 32 bit, where Structure holds 2³²−1, by part in the
	// order of the structure.
	PartSizes []int64
	Sections  []Section

	// Bytes is how long the response was, without what was streamed or cut off: about what
	// it costs to keep all of it.
	Bytes int

	// Damaged names what came and could not be read, or not whole.
	Damaged []Damage
}

// Damage is an item that could not be read.
type Damage struct {
	Item string // as it is asked for, without brackets: "ENVELOPE", "BODY"
	Why  string // one of a few words
}

// Why an item is damaged.
const (
	whySyntax   = "syntax"
	whyUnclosed = "unclosed"
	whyTooDeep  = "tooDeep"
	whyTooMany  = "tooMany"
	whyTooLong  = "tooLong"
	whyRange    = "range"
)

// Section is a BODY or BINARY item.
type Section struct {
	// Item is the one that was asked for; "" where none was. Servers echo names as they
	// like, so the n-th odd one is the n-th asked for.
	Item   Item
	Name   string // as it came, between the brackets
	Origin int64
	Data   []byte // nil = NIL; valid until the callback returns
	Binary bool
}

// Section returns what came for an item; nil where nothing did.
func (m *Message) Section(item Item) *Section {
	for i := range m.Sections {
		if m.Sections[i].Item == item {
			return &m.Sections[i]
		}
	}
	return nil
}

// IsDamaged says whether an item came and could not be read.
func (m *Message) IsDamaged(item string) bool {
	for _, d := range m.Damaged {
		if d.Item == item {
			return true
		}
	}
	return false
}

func (m *Message) damage(item, why string) {
	if len(m.Damaged) < 32 {
		m.Damaged = append(m.Damaged, Damage{item, why})
	}
}

// reset makes a message ready to be filled again.
func (m *Message) reset(seq uint32) {
	*m = Message{Seq: seq, Sections: m.Sections[:0], Damaged: m.Damaged[:0], Labels: m.Labels[:0]}
}
