package imapsync

import (
	"encoding/base64"
	"encoding/binary"
	"strconv"
	"strings"

	"github.com/postrider/postrider/events"
	"github.com/postrider/postrider/store"
)

// messageID is a message's id: its folder's number and its UID, 4 bytes each, in
// base64url. It survives whatever the number survives.
func messageID(num, uid uint32) string { return partID(num, uid, "") }

// partID is the id of parts of a message: the message's id with MIME part numbers
// behind it, several separated by ";".
func partID(num, uid uint32, parts string) string {
	b := make([]byte, 8, 8+len(parts))
	binary.BigEndian.PutUint32(b, num)
	binary.BigEndian.PutUint32(b[4:], uid)
	return base64.RawURLEncoding.EncodeToString(append(b, parts...))
}

// site is where an event happened: what every id of a folder's events is derived from.
type site struct {
	account store.AccountID
	epoch   int64
	folder  store.Folder
}

// messageEvent is the id of an event about one message (events.md section 3). meta is
// the folder's state as the event is made.
func (s site) messageEvent(t events.Type, meta *store.FolderMeta, uid uint32, more ...string) events.ID {
	key := append([]string{
		events.Uint(meta.Incarnation), s.folder.Path, events.Uint(meta.UIDValidity), events.Uint(meta.Returns), events.Uint(uid),
	}, more...)
	return events.NewID(string(s.account), s.epoch, t, key...)
}

// mailboxEvent is the id of an event about the folder itself. version is that of the
// folder, or of the folder list, before the commit.
func (s site) mailboxEvent(t events.Type, incarnation, uidValidity uint32, version uint64) events.ID {
	return events.NewID(string(s.account), s.epoch, t,
		events.Uint(incarnation), s.folder.Path, events.Uint(uidValidity), events.Uint(version))
}

// statusEvent is the id of an event about the account. version is that of its status
// before the commit.
func statusEvent(account store.AccountID, epoch int64, t events.Type, version uint64) events.ID {
	return events.NewID(string(account), epoch, t, events.Uint(version))
}

// event puts a payload into its envelope.
func (s site) event(id events.ID, data events.Payload) events.Event {
	return events.Event{ID: id, Path: s.folder.Path, SpecialUse: s.folder.SpecialUse, Data: data}
}

// mailbox is what every mailbox event begins with.
func (s site) mailbox() events.Folder {
	name := s.folder.Path
	if d := s.folder.Delimiter; d != "" {
		name = name[strings.LastIndex(name, d)+len(d):]
		if !strings.Contains(s.folder.Path, d) {
			name = s.folder.Path
		}
	}
	return events.Folder{Path: s.folder.Path, Name: name, SpecialUse: events.Role(s.folder.SpecialUse)}
}

// validity is UIDVALIDITY as events write it; 0 is none.
func validity(v uint32) events.UIDValidity {
	if v == 0 {
		return ""
	}
	return events.UIDValidity(strconv.FormatUint(uint64(v), 10))
}
