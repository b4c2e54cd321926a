package imapsync

import (
	"context"
	"time"

	"github.com/postrider/postrider/events"
	"github.com/postrider/postrider/store"
)

// Store is all that the engine needs of durable state. *store.Store is one. All of it
// MUST be safe for concurrent use and safe to repeat after an error; what wraps
// store.ErrUnavailable is tried again later, and may have happened.
type Store interface {
	Registry
	Leases
	Proofs
	StateStore
}

// Registry says which accounts should be watched.
type Registry interface {
	// ShardVersions are bumped with every change of an account of the shard.
	ShardVersions(ctx context.Context) ([store.Shards]uint64, error)
	// ShardAccounts are the accounts of a shard, recently deleted ones included.
	ShardAccounts(ctx context.Context, shard int) ([]store.Account, error)
	// Enlist gives accounts their places among leases and proofs again where these were
	// lost, and says how many were.
	Enlist(ctx context.Context, accounts []*store.Account) (missing int, err error)
	// Settings MAY be a few seconds old.
	Settings(ctx context.Context) (store.Settings, error)
	// PauseAccount is idempotent and raises the fence.
	PauseAccount(ctx context.Context, id store.AccountID, reason string) (store.Account, error)
}

// Leases says which process watches an account.
type Leases interface {
	Acquire(ctx context.Context, id store.AccountID, owner string, ttl time.Duration) (store.Lease, error)
	Renew(ctx context.Context, leases []store.Held, ttl time.Duration) (lost, behind []store.AccountID, err error)
	Release(ctx context.Context, l store.Lease) error
	FreeLeases(ctx context.Context) (free []store.AccountID, procs int, err error)
	// OwnedLeases are those that a predecessor of the same name has left.
	OwnedLeases(ctx context.Context, owner string) ([]store.AccountID, error)
	Heartbeat(ctx context.Context, proc string, ttl time.Duration) (alive []string, err error)
	Retire(ctx context.Context, proc string) error
}

// Proofs keeps when accounts last proved that they live, across processes.
type Proofs interface {
	SetAlive(ctx context.Context, at map[store.AccountID]time.Time) error
	Silent(ctx context.Context, before time.Time) ([]store.AccountID, error)
	States(ctx context.Context, ids []store.AccountID) (map[store.AccountID]store.State, error)
	Observe(ctx context.Context, id store.AccountID, c store.StatusChange, evs ...events.Event) error
}

// StateStore is one account's state, read and committed by the worker that holds its
// lease.
type StateStore interface {
	State(ctx context.Context, id store.AccountID) (store.State, error)
	RestoreState(ctx context.Context, l store.Lease, reason string) (store.State, error)
	Folders(ctx context.Context, id store.AccountID) ([]store.Folder, uint64, error)
	FolderMetas(ctx context.Context, id store.AccountID, nums []uint32) (map[uint32]store.FolderMeta, error)
	FolderMeta(ctx context.Context, id store.AccountID, num uint32) (store.FolderMeta, error)
	Blocks(ctx context.Context, id store.AccountID, num uint32, meta store.FolderMeta, idx ...uint32) (map[uint32][]store.Record, error)
	// UIDs is Blocks with the UIDs alone.
	UIDs(ctx context.Context, id store.AccountID, num uint32, meta store.FolderMeta, idx ...uint32) (map[uint32][]uint32, error)
	Gones(ctx context.Context, id store.AccountID) ([]store.Gone, error)
	// Intents are our own changes that nobody saw the effect of.
	Intents(ctx context.Context, id store.AccountID) ([]store.Intent, error)
	IdentitiesAt(ctx context.Context, id store.AccountID, of []store.MessageKey) (map[store.MessageKey]store.Identity, error)
	Recents(ctx context.Context, id store.AccountID, ids []store.Identity) (map[store.Identity][]store.Place, error)
	Commit(ctx context.Context, l store.Lease, c store.Change) (store.Committed, error)
}
