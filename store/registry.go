package store

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/postrider/postrider/events"
)

// tombFor is how long a deleted account is remembered: for repeated deletions, and so
// that its own webhook URL still hears of the end.
const tombFor = 24 * time.Hour

// CreateAccount registers an account: its record, its state, its free lease and
// accountAdded, in one script. Version, Epoch, Created and Updated are given here. An
// id that was deleted goes on numbering where its journal ended.
//
// Errors: ErrExists.
func (s *Store) CreateAccount(ctx context.Context, a Account) (Account, error) {
	now, err := s.Now(ctx)
	if err != nil {
		return Account{}, err
	}
	a.Version, a.Epoch, a.Created, a.Updated, a.Deleted = 1, now.UnixMilli(), now.UTC(), now.UTC(), time.Time{}
	if a.NotifyFrom.IsZero() {
		a.NotifyFrom = a.Created
	}
	raw, err := s.seal(a)
	if err != nil {
		return Account{}, err
	}
	n := Shard(a.ID)
	tx := s.begin(a.ID)
	tx.need = false
	tx.guard(s.k.registry(n), string(a.ID), "")
	tx.op("HSET", tx.key(s.k.registry(n)), string(a.ID), raw)
	tx.op("HDEL", tx.key(s.k.tombs(n)), string(a.ID))
	tx.op("INCR", tx.key(s.k.shardVersion(n)))
	tx.op("HSET", 2, "fence", a.Epoch)
	tx.op("ZADD", tx.key(s.k.leases(n)), 0, string(a.ID))
	tx.op("ZNEVER", tx.key(s.k.alive(n)), string(a.ID))
	tx.op("HSET", 1, "epoch", a.Epoch, "reason", ReasonAdded, "sv", 1, "status", tx.json(Status{State: a.firstState(StateInit)}))
	tx.hint = accountHint(a.ID)
	_, err = tx.run(ctx, []events.Event{{
		ID:   events.NewID(string(a.ID), a.Epoch, events.AccountAddedType, "0"),
		Data: events.AccountAdded{Account: string(a.ID), Epoch: a.Epoch},
	}})
	if errors.Is(err, ErrStale) {
		return Account{}, fmt.Errorf("account %q: %w", a.ID, ErrExists)
	}
	return a, err
}

// Account reads one account. Errors: ErrNotFound.
func (s *Store) Account(ctx context.Context, id AccountID) (Account, error) {
	a, _, err := s.account(ctx, id)
	return a, err
}

// account reads an account and the bytes it was stored as, which guard its change.
func (s *Store) account(ctx context.Context, id AccountID) (Account, string, error) {
	raw, err := s.rdb.HGet(ctx, s.k.registry(Shard(id)), string(id)).Result()
	if errors.Is(err, redis.Nil) {
		return Account{}, "", fmt.Errorf("account %q: %w", id, ErrNotFound)
	}
	if err != nil {
		return Account{}, "", unavailable("read account", err)
	}
	a, err := s.unseal(id, []byte(raw))
	return a, raw, err
}

// UpdateAccount changes an account by change, which may be called several times. With
// match above 0 the version must be that one. ID, Epoch and Created stay. Every call
// raises Version, also one that changes nothing: that asks for a new connection. Another
// submission server, other credentials or limits of sending wake the spool.
//
// Errors: ErrNotFound, ErrStale, and what change answers.
func (s *Store) UpdateAccount(ctx context.Context, id AccountID, match uint64, change func(*Account) error) (Account, error) {
	return s.updateAccount(ctx, id, match, change, nil)
}

// updateAccount is UpdateAccount with more to do in the same script.
func (s *Store) updateAccount(ctx context.Context, id AccountID, match uint64, change func(*Account) error,
	more func(*tx, Account) ([]events.Event, error),
) (Account, error) {
	for try := 0; ; try++ {
		a, raw, err := s.account(ctx, id)
		if err != nil {
			return Account{}, err
		}
		if match > 0 && a.Version != match {
			return Account{}, fmt.Errorf("account %q: version %d: %w", id, match, ErrStale)
		}
		now, err := s.Now(ctx)
		if err != nil {
			return Account{}, err
		}
		old := a
		if err := change(&a); err != nil {
			return Account{}, err
		}
		a.ID, a.Epoch, a.Created = old.ID, old.Epoch, old.Created
		a.Version, a.Updated = old.Version+1, now.UTC()
		next, err := s.seal(a)
		if err != nil {
			return Account{}, err
		}
		n := Shard(id)
		tx := s.begin(id)
		tx.need = false // an account whose state is lost can be changed all the same
		tx.guard(s.k.registry(n), string(id), raw)
		tx.op("HSET", tx.key(s.k.registry(n)), string(id), next)
		tx.op("INCR", tx.key(s.k.shardVersion(n)))
		tx.hint = accountHint(id)
		if was, err := s.unseal(id, []byte(raw)); err == nil && sendsOtherwise(was, a) {
			tx.wake()
		}
		var evs []events.Event
		if more != nil {
			if evs, err = more(tx, a); err != nil {
				return Account{}, err
			}
		}
		_, err = tx.run(ctx, evs)
		if err == nil {
			return a, nil
		}
		if !errors.Is(err, ErrStale) || match > 0 || try == 4 {
			return Account{}, fmt.Errorf("account %q: %w", id, err)
		}
	}
}

// sendsOtherwise says whether what kept an account from sending may no longer hold.
func sendsOtherwise(was, next Account) bool {
	return !reflect.DeepEqual(was.SMTP, next.SMTP) || !reflect.DeepEqual(was.SendLimits, next.SendLimits)
}

// PauseAccount stops watching and sending: the fence is raised, so that nothing of the account
// follows its accountPaused. A paused account stays as it is. Errors: ErrNotFound,
// ErrStateLost.
func (s *Store) PauseAccount(ctx context.Context, id AccountID, reason string) (Account, error) {
	return s.setPaused(ctx, id, reason, true)
}

// ResumeAccount ends a pause; what happened meanwhile is found by the next look.
// Errors: ErrNotFound, ErrStateLost.
func (s *Store) ResumeAccount(ctx context.Context, id AccountID, reason string) (Account, error) {
	return s.setPaused(ctx, id, reason, false)
}

func (s *Store) setPaused(ctx context.Context, id AccountID, reason string, pause bool) (Account, error) {
	a, err := s.Account(ctx, id)
	if err != nil || (a.Paused != nil) == pause {
		return a, err
	}
	var since *events.Time
	next, err := s.updateAccount(ctx, id, 0, func(a *Account) error {
		if (a.Paused != nil) == pause { // somebody else was quicker
			return errAlreadySo
		}
		if !pause {
			t := events.TimeOf(a.Paused.Since)
			a.Paused, since = nil, &t
			return nil
		}
		now, err := s.Now(ctx)
		if err != nil {
			return err
		}
		a.Paused = &Pause{Reason: reason, Since: now.UTC()}
		return nil
	}, func(tx *tx, _ Account) ([]events.Event, error) {
		var st State
		if err := s.restored(ctx, id, func() (err error) { st, err = s.State(ctx, id); return err }); err != nil {
			return nil, err
		}
		n := Shard(id)
		tx.need = true
		spool := tx.key(s.k.outboxOf(id, "spool"))
		if pause {
			tx.op("HSET", spool, "paused", 1)
		} else {
			tx.op("HDEL", spool, "paused")
		}
		tx.schedule()
		tx.op("HINCRBY", 2, "fence", 1)
		tx.op("HDEL", 2, "owner")
		tx.op("ZADD", tx.key(s.k.leases(n)), 0, string(id))
		next := st.Status
		next.Connections = 0
		var data events.Payload = events.AccountResumed{Reason: reason, Since: since}
		if pause {
			next.State = StatePaused
			data = events.AccountPaused{Reason: reason, Since: timeOrNil(st.Status.AuthFailing)}
			tx.op("ZREM", tx.key(s.k.alive(n)), string(id))
		} else {
			next.State, next.LastError, next.Failures, next.AuthFailing = StateInit, nil, 0, time.Time{}
			tx.op("ZNEVER", tx.key(s.k.alive(n)), string(id))
		}
		tx.status(StatusChange{Version: st.StatusVersion, Status: next})
		return []events.Event{{ID: events.NewID(string(id), st.Epoch, data.EventType(), events.Uint(st.StatusVersion)), Data: data}}, nil
	})
	if errors.Is(err, errAlreadySo) {
		return s.Account(ctx, id)
	}
	return next, err
}

// errAlreadySo ends a change that somebody else has made meanwhile.
var errAlreadySo = errors.New("already so")

// timeOrNil is nil for a time that was never set.
func timeOrNil(t time.Time) *events.Time {
	if t.IsZero() {
		return nil
	}
	v := events.TimeOf(t)
	return &v
}

// DeleteAccount revokes the account's tokens, appends accountDeleted as its last event
// and removes everything of it but the journal, in one script; rows and bodies of its outbox
// are out of reach then, and removed by and by. Deleting again within a day is no
// error. Errors: ErrNotFound.
func (s *Store) DeleteAccount(ctx context.Context, id AccountID) error {
	n := Shard(id)
	if err := s.DeleteAccountTokens(ctx, id); err != nil {
		return err
	}
	for try := 0; ; try++ {
		a, raw, err := s.account(ctx, id)
		if errors.Is(err, ErrNotFound) {
			if was, err2 := s.rdb.HExists(ctx, s.k.tombs(n), string(id)).Result(); err2 != nil || was {
				return unavailable("read deleted account", err2)
			}
		}
		if err != nil {
			return err
		}
		epoch, sv := a.Epoch, uint64(0)
		if st, err := s.State(ctx, id); err == nil {
			epoch, sv = st.Epoch, st.StatusVersion
		} else if !errors.Is(err, ErrStateLost) {
			return err
		}
		now, err := s.Now(ctx)
		if err != nil {
			return err
		}
		tomb, err := s.seal(Account{ID: id, Webhooks: a.Webhooks, Headers: a.Headers, Epoch: epoch, Deleted: now.UTC()})
		if err != nil {
			return err
		}
		owned, err := s.folderKeys(ctx, id)
		if err != nil {
			return err
		}
		set, err := s.Settings(ctx)
		if err != nil {
			return err
		}
		waits, err := s.rdb.HMGet(ctx, s.k.outboxOf(id, "spool"), "n", "bytes").Result()
		if err != nil {
			return unavailable("read spool", err)
		}
		tx := s.begin(id)
		tx.need = false
		tx.guard(s.k.registry(n), string(id), raw)
		rows, _ := waits[0].(string) // absent: nothing waits
		bytes, _ := waits[1].(string)
		dropped := tx.dropOutbox(set, now, rows, bytes)
		tx.op("HDEL", tx.key(s.k.registry(n)), string(id))
		tx.op("HSET", tx.key(s.k.tombs(n)), string(id), tomb)
		tx.op("INCR", tx.key(s.k.shardVersion(n)))
		tx.op("ZREM", tx.key(s.k.leases(n)), string(id))
		tx.op("ZREM", tx.key(s.k.alive(n)), string(id))
		tx.op("DEL", 2)
		for _, key := range append(owned, s.k.folders(id), s.k.recent(id), s.k.recentAt(id), s.k.gone(id), s.k.intents(id), s.k.once(id), s.k.state(id)) {
			tx.finally("DEL", tx.key(key))
		}
		tx.hint = accountHint(id)
		_, err = tx.run(ctx, []events.Event{{
			ID:   events.NewID(string(id), epoch, events.AccountDeletedType, events.Uint(sv)),
			Data: events.AccountDeleted{Account: string(id), OutboxDropped: dropped},
		}})
		if err == nil && dropped > 0 {
			if _, err := s.dropOutbox(ctx, n); err != nil { // else a sweep does it
				s.log.Warn("outbox of deleted account not removed yet", "account", id, "err", err)
			}
		}
		if !errors.Is(err, ErrStale) || try == 4 {
			return err
		}
	}
}

// folderKeys finds the keys of all folders an account has or had: by name, since the
// folder list itself may be what was lost.
func (s *Store) folderKeys(ctx context.Context, id AccountID) ([]string, error) {
	node := redis.Cmdable(s.rdb)
	if c, ok := s.rdb.(*redis.ClusterClient); ok {
		master, err := c.MasterForKey(ctx, s.k.state(id))
		if err != nil {
			return nil, unavailable("find shard", err)
		}
		node = master
	}
	nums, err := s.rdb.HKeys(ctx, s.k.folders(id)).Result()
	if err != nil {
		return nil, unavailable("read folders", err)
	}
	if len(nums) > 0 {
		keys := make([]string, 0, 2*len(nums))
		for _, num := range nums {
			n, err := strconv.ParseUint(num, 10, 32)
			if err != nil {
				continue
			}
			keys = append(keys, s.k.folder(id, uint32(n)), s.k.blocks(id, uint32(n)))
		}
		return keys, nil
	}
	var keys []string
	for _, kind := range []string{"f:", "b:"} {
		it := node.Scan(ctx, 0, globEscape(s.k.ofAccount(id, kind))+"*", 1000).Iterator()
		for it.Next(ctx) {
			keys = append(keys, it.Val())
		}
		if err := it.Err(); err != nil {
			return nil, unavailable("scan folders", err)
		}
	}
	return keys, nil
}

// globEscape makes a key a literal of Redis' glob patterns.
func globEscape(s string) string {
	out := make([]byte, 0, len(s)+8)
	for i := range len(s) {
		switch s[i] {
		case '*', '?', '[', ']', '^', '\\':
			out = append(out, '\\')
		}
		out = append(out, s[i])
	}
	return string(out)
}

// AccountIDs lists all accounts, sorted.
func (s *Store) AccountIDs(ctx context.Context) ([]AccountID, error) {
	cmds := make([]*redis.StringSliceCmd, Shards)
	_, err := s.rdb.Pipelined(ctx, func(p redis.Pipeliner) error {
		for n := range cmds {
			cmds[n] = p.HKeys(ctx, s.k.registry(n))
		}
		return nil
	})
	if err != nil {
		return nil, unavailable("list accounts", err)
	}
	var ids []AccountID
	for _, c := range cmds {
		for _, id := range c.Val() {
			ids = append(ids, AccountID(id))
		}
	}
	slices.Sort(ids)
	return ids, nil
}

// ShardVersions gives a number per shard that grows whenever an account of it is
// registered, changed or deleted.
func (s *Store) ShardVersions(ctx context.Context) (v [Shards]uint64, err error) {
	cmds := make([]*redis.StringCmd, Shards)
	_, err = s.rdb.Pipelined(ctx, func(p redis.Pipeliner) error {
		for n := range cmds {
			cmds[n] = p.Get(ctx, s.k.shardVersion(n))
		}
		return nil
	})
	if err != nil && !errors.Is(err, redis.Nil) {
		return v, unavailable("read versions", err)
	}
	for n, c := range cmds {
		if v[n], err = c.Uint64(); err != nil && !errors.Is(err, redis.Nil) {
			return v, unavailable("read versions", err)
		}
	}
	return v, nil
}

// ShardAccounts reads all accounts of a shard, and those deleted within the last day,
// of which only ID, Webhooks, Headers, Epoch and Deleted are there. An account whose
// record cannot be read is left out and logged: it must not cost the others.
func (s *Store) ShardAccounts(ctx context.Context, shard int) ([]Account, error) {
	var live, gone *redis.MapStringStringCmd
	_, err := s.rdb.Pipelined(ctx, func(p redis.Pipeliner) error {
		live, gone = p.HGetAll(ctx, s.k.registry(shard)), p.HGetAll(ctx, s.k.tombs(shard))
		return nil
	})
	if err != nil {
		return nil, unavailable("read accounts", err)
	}
	accounts := make([]Account, 0, len(live.Val())+len(gone.Val()))
	for _, all := range []map[string]string{live.Val(), gone.Val()} {
		for id, raw := range all {
			a, err := s.unseal(AccountID(id), []byte(raw))
			if err != nil {
				s.log.Error("account record unreadable", "account", id, "err", err)
				continue
			}
			accounts = append(accounts, a)
		}
	}
	slices.SortFunc(accounts, func(a, b Account) int { return cmp.Compare(a.ID, b.ID) })
	return accounts, nil
}

// forgetDeleted removes the tombs that have stood for tombFor.
func (s *Store) forgetDeleted(ctx context.Context, shard int, now time.Time) error {
	all, err := s.rdb.HGetAll(ctx, s.k.tombs(shard)).Result()
	if err != nil {
		return unavailable("read deleted accounts", err)
	}
	for id, raw := range all {
		a, err := s.unseal(AccountID(id), []byte(raw))
		if err == nil && now.Sub(a.Deleted) < tombFor {
			continue
		}
		if err := s.rdb.HDel(ctx, s.k.tombs(shard), id).Err(); err != nil {
			return unavailable("forget deleted account", err)
		}
	}
	return nil
}
