package store

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/postrider/postrider/events"
)

// Why an account takes its first look, the reason of accountInitialized.
const (
	ReasonAdded     = "added"
	ReasonStateLost = "stateLost"
	ReasonFlush     = "flush"
)

// State reads what is known of an account beside its folders. Errors: ErrNotFound;
// ErrStateLost when the account is registered and its state is gone or unreadable.
func (s *Store) State(ctx context.Context, id AccountID) (State, error) {
	var reg *redis.BoolCmd
	var reads stateReads
	_, err := s.rdb.Pipelined(ctx, func(p redis.Pipeliner) error {
		reg = p.HExists(ctx, s.k.registry(Shard(id)), string(id))
		reads = s.readState(ctx, p, id)
		return nil
	})
	if err != nil && !errors.Is(err, redis.Nil) {
		return State{}, unavailable("read state", err)
	}
	if !reg.Val() {
		return State{}, fmt.Errorf("account %q: %w", id, ErrNotFound)
	}
	st, err := reads.state()
	if err != nil {
		return State{}, fmt.Errorf("account %q: %w", id, err)
	}
	return st, nil
}

// States reads the state of many accounts at once; those without one are absent.
func (s *Store) States(ctx context.Context, ids []AccountID) (map[AccountID]State, error) {
	reads := make([]stateReads, len(ids))
	_, err := s.rdb.Pipelined(ctx, func(p redis.Pipeliner) error {
		for i, id := range ids {
			reads[i] = s.readState(ctx, p, id)
		}
		return nil
	})
	if err != nil && !errors.Is(err, redis.Nil) {
		return nil, unavailable("read states", err)
	}
	states := make(map[AccountID]State, len(ids))
	for i, id := range ids {
		if st, err := reads[i].state(); err == nil {
			states[id] = st
		}
	}
	return states, nil
}

// stateReads are the commands that read one account's state.
type stateReads struct {
	hash  *redis.MapStringStringCmd
	lease *redis.SliceCmd
	alive *redis.FloatCmd
}

func (s *Store) readState(ctx context.Context, p redis.Pipeliner, id AccountID) stateReads {
	return stateReads{
		p.HGetAll(ctx, s.k.state(id)),
		p.HMGet(ctx, s.k.lease(id), "fence", "owner"),
		p.ZScore(ctx, s.k.alive(Shard(id)), string(id)),
	}
}

func (r stateReads) state() (State, error) {
	h := r.hash.Val()
	if h["epoch"] == "" {
		return State{}, ErrStateLost
	}
	var err error
	num := func(field string) uint64 {
		if h[field] == "" {
			return 0
		}
		v, e := strconv.ParseUint(h[field], 10, 64)
		err = errors.Join(err, e)
		return v
	}
	st := State{
		Epoch: int64(num("epoch")), Seq: num("seq"), Initialized: h["init"] == "1", Reason: h["reason"],
		ListVersion: num("listV"), NextNum: uint32(num("nextNum")), StatusVersion: num("sv"),
	}
	if h["from"] != "" {
		var e error
		st.NotifyFrom, e = time.Parse(time.RFC3339Nano, h["from"])
		err = errors.Join(err, e)
	}
	flush, e := readFlush(h["flush"])
	st.Flush, err = flush, errors.Join(err, e)
	st.SMTP = readSMTPStatus(h["smtp"], h["smtpV"])
	if h["status"] != "" {
		err = errors.Join(err, json.Unmarshal([]byte(h["status"]), &st.Status))
		st.Status.share()
	}
	if err != nil {
		return State{}, fmt.Errorf("%w: %w", ErrStateLost, err)
	}
	if lease := r.lease.Val(); len(lease) == 2 {
		fence, _ := lease[0].(string)
		st.Fence, _ = strconv.ParseUint(fence, 10, 64) // absent: nobody has held it
		st.Owner, _ = lease[1].(string)
	}
	if ms := r.alive.Val(); ms > 0 {
		st.LastAlive = time.UnixMilli(int64(ms)).UTC()
	}
	return st, nil
}

// RestoreState begins an account's state anew after it was lost: a new epoch, no
// folders, numbering that goes on behind the journal (or above anything used before,
// where the journal is gone too), and one accountStateLost, in one script. A flush that is
// asked for, if it was not lost too, is still to be done. reason is "missing", "corrupt" or
// "version".
//
// Errors: ErrLeaseLost, ErrStale when somebody else restored it.
func (s *Store) RestoreState(ctx context.Context, l Lease, reason string) (State, error) {
	id := l.Account
	old, err := s.rdb.HGetAll(ctx, s.k.state(id)).Result()
	if err != nil {
		return State{}, unavailable("read state", err)
	}
	now, err := s.Now(ctx)
	if err != nil {
		return State{}, err
	}
	_, newest, err := s.JournalBounds(ctx, id)
	if err != nil {
		return State{}, err
	}
	owned, err := s.folderKeys(ctx, id)
	if err != nil {
		return State{}, err
	}
	a, err := s.Account(ctx, id)
	if err != nil {
		return State{}, err
	}
	epoch := now.UnixMilli()
	prev, _ := strconv.ParseInt(old["epoch"], 10, 64) // gone or unreadable is what we mend
	lastSeq, _ := strconv.ParseUint(old["seq"], 10, 64)
	lastSeq = max(lastSeq, newest)
	restarted := lastSeq == 0
	gap := events.Gap{To: events.TimeOf(now)}
	if ms, err := s.rdb.ZScore(ctx, s.k.alive(Shard(id)), string(id)).Result(); err == nil && ms > 0 {
		gap.From = timeOrNil(time.UnixMilli(int64(ms)))
	}

	tx := s.begin(id)
	tx.need = false
	tx.fence = strconv.FormatUint(l.Fence, 10)
	tx.guard(s.k.state(id), "epoch", old["epoch"])
	tx.guard(s.k.state(id), "flush", old["flush"])
	for _, key := range append(owned, s.k.folders(id), s.k.recent(id), s.k.recentAt(id), s.k.gone(id), s.k.intents(id), s.k.state(id)) {
		tx.op("DEL", tx.key(key))
	}
	// Message ids of before must answer 404 and never another message: folder numbers
	// go on at a random place.
	next := rand.Uint32N(1 << 30)
	tx.op("HSET", 1, "epoch", epoch, "reason", ReasonStateLost, "nextNum", next, "sv", 1, "status", tx.json(Status{State: a.firstState(StateConnecting)}))
	if flush, err := readFlush(old["flush"]); err == nil && flush != nil {
		tx.op("HSET", 1, "flush", flush.raw)
	}
	if restarted {
		tx.op("SEQ", 1, epoch-1)
	} else {
		tx.op("SEQ", 1, lastSeq)
	}
	_, err = tx.run(ctx, []events.Event{{
		ID: events.NewID(string(id), epoch, events.AccountStateLostType, "0"),
		Data: events.AccountStateLost{
			Epoch: epoch, PrevEpoch: prev, Reason: reason, Gap: gap, SeqRestarted: restarted, LastSeq: lastSeq,
		},
	}})
	if err != nil {
		return State{}, fmt.Errorf("restore state of account %q: %w", id, err)
	}
	return s.State(ctx, id)
}

// SetAlive records proofs of life, in one pipeline.
func (s *Store) SetAlive(ctx context.Context, proofs map[AccountID]time.Time) error {
	if len(proofs) == 0 {
		return nil
	}
	_, err := s.rdb.Pipelined(ctx, func(p redis.Pipeliner) error {
		for id, at := range proofs {
			// XX: an account that was paused or deleted meanwhile must not come back
			p.ZAddXX(ctx, s.k.alive(Shard(id)), redis.Z{Score: float64(at.UnixMilli()), Member: string(id)})
		}
		return nil
	})
	return unavailable("record proofs of life", err)
}

// Silent lists the watched accounts without a proof of life since before: the last one
// is older, or there was none and watching began earlier than that.
func (s *Store) Silent(ctx context.Context, before time.Time) ([]AccountID, error) {
	ms := before.UnixMilli()
	var cmds []*redis.StringSliceCmd
	_, err := s.rdb.Pipelined(ctx, func(p redis.Pipeliner) error {
		for n := range Shards {
			// A negative score is the time since when the account waits for its first proof.
			cmds = append(cmds,
				p.ZRangeByScore(ctx, s.k.alive(n), &redis.ZRangeBy{Min: "0", Max: strconv.FormatInt(ms, 10)}),
				p.ZRangeByScore(ctx, s.k.alive(n), &redis.ZRangeBy{Min: strconv.FormatInt(-ms, 10), Max: "(0"}))
		}
		return nil
	})
	if err != nil {
		return nil, unavailable("look for silent accounts", err)
	}
	var ids []AccountID
	for _, c := range cmds {
		for _, id := range c.Val() {
			ids = append(ids, AccountID(id))
		}
	}
	return ids, nil
}
