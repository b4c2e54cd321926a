package imapsync

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/postrider/postrider/events"
	"github.com/postrider/postrider/store"
)

// existingAfter is how much older than the last look a message may be and still count
// as one that arrived since (events.md section 4).
const existingAfter = 24 * time.Hour

// identityBy is what a message can be recognised by in another place: its EMAILID, else
// its Message-ID and size; "" without either, which would make all messages of one size
// the same.
func identityBy(emailID, messageID string, size int64) store.Identity {
	switch {
	case emailID != "":
		return store.Identity(emailPrefix + emailID)
	case messageID == "":
		return ""
	}
	sum := sha256.Sum256([]byte(messageID + "\x00" + strconv.FormatInt(size, 10)))
	return store.Identity(hex.EncodeToString(sum[:8]))
}

// identity is what m can be recognised by; see identityBy.
func (m *IdentityOf) identity() store.Identity { return identityBy(m.EmailID, m.MessageID, m.Size) }

// emailIDOf is the EMAILID that an identity is; "" when it is none.
func emailIDOf(id store.Identity) string {
	if s, ok := strings.CutPrefix(string(id), emailPrefix); ok {
		return s
	}
	return ""
}

// emailPrefix tells identities that are EMAILIDs from those that are hashes.
const emailPrefix = "e:"

// printOf is the 64-bit hash of a message's Message-ID, size and INTERNALDATE; 0 where
// one of the first two is not known.
func printOf(ident store.Identity, date int64) uint64 {
	if ident == "" {
		return 0
	}
	sum := sha256.Sum256([]byte(string(ident) + "\x00" + strconv.FormatInt(date, 10)))
	return binary.LittleEndian.Uint64(sum[:])
}

// arrival is what is known of a message that was found, beside what the server says.
type arrival struct {
	now      time.Time       // when it was found
	look     time.Time       // T0: the last complete look that did not show it; zero = none
	own      bool            // our APPEND
	backfill bool            // first look at the folder of a new account
	returned bool            // its UID is below the cursor and nobody waited for it
	known    bool            // its identity is a recent one
	related  *events.Related // what it was elsewhere, and left
	from     *store.Gone     // that, while its messageDeleted is held
	copied   bool            // its EMAILID is still in another folder, or it is our COPY
	waited   *store.Pending  // it had been announced by the server before
	places   []store.Place   // where its identity was seen, to be kept
	category string          // of Gmail's inbox; "" = none, or not wanted
	content  *content        // nil: none is wanted
}

// originOf says why a message is announced: the first row of events.md section 4 that
// fits. A message that may have been one of several vanished ones is linked to none.
func originOf(internalDate time.Time, a arrival) events.Origin {
	switch {
	case a.own:
		return events.OriginOwnAppend
	case a.related != nil:
		return events.OriginMoved
	case a.copied:
		return events.OriginCopied
	case a.returned:
		return events.OriginReappeared
	case a.backfill:
		return events.OriginBackfill
	case a.known, tooOld(internalDate, a.look):
		return events.OriginExisting
	}
	return events.OriginNew
}

// tooOld says whether a message must have been somewhere before the look that did not
// show it. Without a date or a look nobody can tell, and it errs towards new.
func tooOld(internalDate, look time.Time) bool {
	return !internalDate.IsZero() && !look.IsZero() && internalDate.Before(look.Add(-existingAfter))
}

// seemsLikeNew is true for an arrival outside of the folders that we write ourselves, and
// without their labels.
func seemsLikeNew(o events.Origin, specialUse string, labels []string) bool {
	own := func(role string) bool { return role == RoleSent || role == RoleDrafts }
	return o == events.OriginNew && !own(specialUse) &&
		!slices.ContainsFunc(labels, func(l string) bool { return own(roleOfLabel(l)) })
}
