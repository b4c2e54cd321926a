package store

import "time"

// Folder is one entry of an account's folder list.
type Folder struct {
	Num              uint32   `json:"num"` // our number: half of every message id, never given twice
	Subscribed       bool     `json:"subscribed,omitempty"`
	Raw              string   `json:"raw"` // the name as LIST gave it, in the server's own bytes
	Path             string   `json:"path"`
	Delimiter        string   `json:"delimiter,omitempty"`
	Attrs            []string `json:"attrs,omitempty"`
	SpecialUse       string   `json:"specialUse,omitempty"`
	SpecialUseSource string   `json:"specialUseSource,omitempty"` // "user", "extension" or "name"
	Watched          string   `json:"watched"`                    // "idle", "poll" or "no"
	MailboxID        string   `json:"mailboxId,omitempty"`        // RFC 8474: stays through a rename
}

// FolderMeta is what is known of a folder beside its messages. It is a value; the
// worker that holds the lease computes the next one and commits it.
type FolderMeta struct {
	Version uint64 `json:"-"` // +1 a commit; 0: never committed

	Incarnation uint32 `json:"incarnation"` // how many folders of this path there have been, a reset counts
	Returns     uint32 `json:"returns"`     // how many commits saw UIDs come back
	UIDValidity uint32 `json:"uidValidity"`
	UIDNext     uint32 `json:"uidNext"` // largest consumed UID + 1
	ModSeq      uint64 `json:"modseq,omitempty"`
	ModSeqPrev  uint64 `json:"modseqPrev,omitempty"`

	Count  int    `json:"count"`  // messages in the blocks
	Blocks int    `json:"blocks"` // number of blocks
	Sum    uint64 `json:"sum"`    // over block numbers and their counts; see Replace. Of a Fast one it is in Redis alone

	// Fast: new mail alone is told, and there are no blocks. Its first look says so, for as long
	// as what is known of the folder lasts.
	Fast       bool `json:"fast,omitempty"`
	Unreadable bool `json:"-"`                  // it is stored, and not as anybody wrote it
	Unlooked   bool `json:"unlooked,omitempty"` // listed and never yet looked at
	Lost       bool `json:"lost,omitempty"`     // what was known of it is gone, and it was not looked at since
	Short      bool `json:"short,omitempty"`    // see Skew: they disagreed when last compared, and it is not latched

	Told uint32 `json:"told,omitempty"` // messages that the first look announced

	Look     time.Time   `json:"look,omitzero"` // last complete look
	Snap     Snap        `json:"snap"`
	Skew     int         `json:"skew,omitempty"` // EXISTS minus what can be enumerated, once latched
	Baseline *Baseline   `json:"baseline,omitempty"`
	Pending  []Pending   `json:"pend,omitempty"`
	Scan     Scan        `json:"scan,omitzero"`
	Audit    Audit       `json:"audit,omitzero"`
	Fail     *Failure    `json:"fail,omitempty"`
	Resets   []time.Time `json:"resets,omitempty"` // of the last day
}

// Snap is what the server said of the folder before the last complete step; equal
// answers mean that there is nothing to look at.
type Snap struct {
	UIDValidity uint32 `json:"v"`
	UIDNext     uint32 `json:"n"`
	Messages    uint32 `json:"m"`
	ModSeq      uint64 `json:"s,omitempty"`
}

// Baseline is the progress of a folder's first look.
type Baseline struct {
	Reason   string   `json:"reason"`             // "added", "stateLost", "new"
	Top      uint32   `json:"top"`                // UIDs below it were there at the first look
	Low      uint32   `json:"low"`                // UIDs at and above it are in the blocks
	ModSeq   uint64   `json:"m0,omitempty"`       // HIGHESTMODSEQ before it began
	Announce []uint32 `json:"announce,omitempty"` // UIDs still to be announced, ascending
}

// Pending is a UID the server announced and that was not announced by us: it was not
// handed out, or is known in another folder, which is looked at first.
type Pending struct {
	UID   uint32    `json:"u"`
	Since time.Time `json:"t"`
	Tries int       `json:"k"`
	Next  time.Time `json:"x"`
	Said  bool      `json:"m,omitempty"` // messageMissing was said
	Held  bool      `json:"h,omitempty"` // it came: what it left, or did not, is looked for until Next

	Returned bool `json:"r,omitempty"` // it was told of as gone; Returns counts it
}

// Scan is the slow round over flags on servers without MODSEQ.
type Scan struct {
	Next uint32    `json:"next,omitempty"` // next UID
	End  time.Time `json:"end,omitzero"`   // end of the last round
}

// Audit says when the folder was last compared with the server whatever its numbers said.
type Audit struct {
	At    time.Time `json:"at,omitzero"`
	Flags time.Time `json:"flags,omitzero"` // all flags were
}

// Failure is why a folder cannot be looked at.
type Failure struct {
	Count    int       `json:"count"`
	Since    time.Time `json:"since"`
	Next     time.Time `json:"next"`
	Reason   string    `json:"reason"`
	Response string    `json:"response,omitempty"`
	Said     bool      `json:"said,omitempty"` // mailboxStalled was said
}

// Messages is how many messages the folder is known to have.
func (m FolderMeta) Messages() int {
	if m.Fast {
		return int(m.Snap.Messages)
	}
	return m.Count
}

// Replace keeps Count, Blocks and Sum true when block idx, which held old messages,
// is given now messages (0: no block).
func (m *FolderMeta) Replace(idx uint32, old, now int) {
	m.Count += now - old
	if old > 0 {
		m.Blocks--
		m.Sum ^= blockSum(idx, old)
	}
	if now > 0 {
		m.Blocks++
		m.Sum ^= blockSum(idx, now)
	}
}

// blockSum mixes a block's number and count (the finaliser of SplitMix64), so that a
// missing, doubled or cut block shows in FolderMeta.Sum.
func blockSum(idx uint32, count int) uint64 {
	x := uint64(idx)<<32 | uint64(uint32(count))
	x += 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return (x ^ x>>31) >> 11 // 53 bits: the number travels through JSON
}

// sealed is the meta as it is stored. A folder that is watched fast has no blocks that show
// when its mode or its cursor is another: Sum does.
func (m FolderMeta) sealed() FolderMeta {
	switch {
	case m.Fast:
		m.Sum = m.cursorSum()
	case m.Blocks == 0:
		m.Sum = 0
	}
	return m
}

// opened is sealed turned round; false where the meta is not what was sealed. A Fast one
// that was stored before there were sums of such has none.
func (m FolderMeta) opened() (FolderMeta, bool) {
	if !m.Fast {
		return m, m.Blocks > 0 || m.Sum == 0
	}
	ok := m.Sum == 0 || m.Sum == m.cursorSum()
	m.Sum = 0
	return m, ok
}

func (m FolderMeta) cursorSum() uint64 { return blockSum(m.UIDNext, int(m.UIDValidity)) | 1 }

// Record is what a folder's state keeps of one message.
type Record struct {
	UID   uint32
	Flags []string // sorted, without \Recent; shared: never change it in place

	// What storeIdentity keeps of it; all of it MAY be absent.
	EmailID   string   // the server's (RFC 8474, or X-GM-MSGID in decimal)
	ThreadID  string   // likewise
	Labels    []string // of Gmail, sorted; shared
	Print     uint64   // over Message-ID, size and INTERNALDATE; 0 = not known
	MessageID string   // with angle brackets
}

// BlockOf is the number of the block that holds a UID.
func BlockOf(uid uint32) uint32 { return uid / blockSize }

// blockSize is how many consecutive UIDs share a block. It is part of the stored format.
const blockSize = 1024

// Identity is what a message can be recognised by in another place: "e:" and its EMAILID,
// else 64 bits over Message-ID and size, as 16 hex digits.
type Identity string

// Place is where a recently announced or vanished message is or was.
type Place struct {
	Folder       uint32 `json:"f"`
	UID          uint32 `json:"u"`
	InternalDate int64  `json:"d"`           // Unix seconds
	Gone         int64  `json:"g,omitempty"` // Unix ms when it vanished; 0: there
	Event        string `json:"e,omitempty"` // id of the event that told of it last
	MessageID    string `json:"m,omitempty"`
	At           int64  `json:"t,omitempty"` // Unix ms when it was announced
	Linked       bool   `json:"l,omitempty"` // its leaving is one half of a move whose other is known
	Arrived      bool   `json:"a,omitempty"` // its coming is
}
