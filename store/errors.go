package store

import "errors"

// The states a call can end in that somebody branches on. They are wrapped:
// compare with errors.Is.
var (
	// ErrNotFound: no such account, folder, token or event.
	ErrNotFound = errors.New("not found")
	// ErrExists: the id is taken.
	ErrExists = errors.New("already exists")
	// ErrStale: the version that the change was computed from is no longer the
	// current one; nothing was changed. Read again and decide again.
	ErrStale = errors.New("state has changed since it was read")
	// ErrLeaseLost: the fencing number is no longer ours; nothing was changed.
	ErrLeaseLost = errors.New("lease lost")
	// ErrLeaseHeld: another process holds the account.
	ErrLeaseHeld = errors.New("lease held by another process")
	// ErrStateLost: the account is registered and its state is gone or unreadable.
	ErrStateLost = errors.New("account state lost")
	// ErrCorrupt: a folder's state does not add up (checksum, counts, format).
	ErrCorrupt = errors.New("folder state corrupt")
	// ErrUnavailable: Redis did not answer, or answered that it cannot now. The
	// call may have taken effect; all of them are safe to repeat.
	ErrUnavailable = errors.New("redis unavailable")
	// ErrCursorExpired: the cursor is older than the journal.
	ErrCursorExpired = errors.New("cursor is older than the journal")
	// ErrInvalidCursor: the cursor was not made by us, or not for this query.
	ErrInvalidCursor = errors.New("invalid cursor")
	// ErrOutboxFull: as much waits to be sent as may; nothing was stored.
	ErrOutboxFull = errors.New("outbox full")
	// ErrKeyReused: the idempotency key was used for another request.
	ErrKeyReused = errors.New("idempotency key reused")
	// ErrUnsafe: this Redis may lose or evict what we entrust to it.
	ErrUnsafe = errors.New("unsafe redis")
)
