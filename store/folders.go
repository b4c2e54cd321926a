package store

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"

	"github.com/redis/go-redis/v9"
)

// Folders reads an account's folder list and its version, by number. Errors: ErrStateLost
// when there are not as many entries as there should be, or one cannot be read.
func (s *Store) Folders(ctx context.Context, id AccountID) ([]Folder, uint64, error) {
	var all *redis.MapStringStringCmd
	var v *redis.SliceCmd
	_, err := s.rdb.TxPipelined(ctx, func(p redis.Pipeliner) error {
		all, v = p.HGetAll(ctx, s.k.folders(id)), p.HMGet(ctx, s.k.state(id), "listV", "listN")
		return nil
	})
	if err != nil && !errors.Is(err, redis.Nil) {
		return nil, 0, unavailable("read folders", err)
	}
	var version, count uint64
	for i, n := range []*uint64{&version, &count} {
		if text, ok := v.Val()[i].(string); ok {
			if *n, err = strconv.ParseUint(text, 10, 64); err != nil {
				return nil, 0, fmt.Errorf("folder list of account %q: %w: %w", id, ErrStateLost, err)
			}
		}
	}
	if got := len(all.Val()); count > 0 && uint64(got) != count {
		return nil, 0, fmt.Errorf("folder list of account %q: %w: %d entries, %d expected", id, ErrStateLost, got, count)
	}
	list := make([]Folder, 0, len(all.Val()))
	for num, raw := range all.Val() {
		var f Folder
		if err := json.Unmarshal([]byte(raw), &f); err != nil {
			return nil, 0, fmt.Errorf("folder %s of account %q: %w: %w", num, id, ErrStateLost, err)
		}
		f.share()
		list = append(list, f)
	}
	slices.SortFunc(list, func(a, b Folder) int { return cmp.Compare(a.Num, b.Num) })
	return list, version, nil
}

// FolderMeta reads what is known of one folder. Errors: ErrNotFound, ErrCorrupt.
func (s *Store) FolderMeta(ctx context.Context, id AccountID, num uint32) (FolderMeta, error) {
	metas, err := s.FolderMetas(ctx, id, []uint32{num})
	if err != nil {
		return FolderMeta{}, err
	}
	m, ok := metas[num]
	if !ok {
		return FolderMeta{}, fmt.Errorf("folder %d of account %q: %w", num, id, ErrNotFound)
	}
	return m, nil
}

// FolderMetas reads what is known of several folders; unknown ones are absent, of one
// that is Unreadable only Version is known. Errors: ErrCorrupt.
func (s *Store) FolderMetas(ctx context.Context, id AccountID, nums []uint32) (map[uint32]FolderMeta, error) {
	cmds := make([]*redis.SliceCmd, len(nums))
	_, err := s.rdb.Pipelined(ctx, func(p redis.Pipeliner) error {
		for i, n := range nums {
			cmds[i] = p.HMGet(ctx, s.k.folder(id, n), "v", "m")
		}
		return nil
	})
	if err != nil {
		return nil, unavailable("read folder states", err)
	}
	metas := make(map[uint32]FolderMeta, len(nums))
	for i, n := range nums {
		v, _ := cmds[i].Val()[0].(string)
		raw, _ := cmds[i].Val()[1].(string)
		if v == "" && raw == "" {
			continue
		}
		var m FolderMeta
		err := json.Unmarshal([]byte(raw), &m)
		version, err2 := strconv.ParseUint(v, 10, 64)
		if err2 != nil { // nothing can be written over what has no version
			return nil, fmt.Errorf("folder %d of account %q: %w: %w", n, id, ErrCorrupt, err2)
		}
		m, sound := m.opened()
		if err != nil || !sound {
			m = FolderMeta{Unreadable: true}
		}
		m.Version = version
		metas[n] = m
	}
	return metas, nil
}

// loadSlice is how many blocks are asked for at once: at 1 KB a block, half a megabyte.
const loadSlice = 500

// Blocks reads blocks of a folder by number: those named, else all of them, which are
// then checked against meta. A named block that is not there is absent.
//
// Errors: ErrCorrupt, ErrStale where they do not fit a meta that another has replaced
// meanwhile.
func (s *Store) Blocks(ctx context.Context, id AccountID, num uint32, meta FolderMeta, idx ...uint32) (map[uint32][]Record, error) {
	return readBlocks(ctx, s, id, num, meta, idx, decodeBlock)
}

// UIDs is Blocks with the UIDs alone, which costs a tenth.
func (s *Store) UIDs(ctx context.Context, id AccountID, num uint32, meta FolderMeta, idx ...uint32) (map[uint32][]uint32, error) {
	return readBlocks(ctx, s, id, num, meta, idx, decodeUIDs)
}

func readBlocks[T any](ctx context.Context, s *Store, id AccountID, num uint32, meta FolderMeta, idx []uint32, decode func(uint32, []byte) ([]T, error)) (map[uint32][]T, error) {
	fail := func(err error) error { return fmt.Errorf("folder %d of account %q: %w", num, id, err) }
	key := s.k.blocks(id, num)
	all := len(idx) == 0
	if all {
		fields, err := s.rdb.HKeys(ctx, key).Result()
		if err != nil {
			return nil, unavailable("read blocks", err)
		}
		for _, f := range fields {
			n, err := strconv.ParseUint(f, 10, 32)
			if err != nil {
				return nil, fail(fmt.Errorf("%w: block %q", ErrCorrupt, f))
			}
			idx = append(idx, uint32(n))
		}
	}
	blocks := make(map[uint32][]T, len(idx))
	for part := range slices.Chunk(idx, loadSlice) {
		fields := make([]string, len(part))
		for i, n := range part {
			fields[i] = strconv.FormatUint(uint64(n), 10)
		}
		values, err := s.rdb.HMGet(ctx, key, fields...).Result()
		if err != nil {
			return nil, unavailable("read blocks", err)
		}
		for i, v := range values {
			data, ok := v.(string)
			if !ok {
				continue
			}
			recs, err := decode(part[i], []byte(data))
			if err != nil {
				return nil, fail(err)
			}
			blocks[part[i]] = recs
		}
	}
	if all {
		var sum FolderMeta
		for n, recs := range blocks {
			sum.Replace(n, 0, len(recs))
		}
		if sum.Count != meta.Count || sum.Blocks != meta.Blocks || sum.Sum != meta.Sum {
			now, err := s.rdb.HGet(ctx, s.k.folder(id, num), "v").Result()
			if err != nil && !errors.Is(err, redis.Nil) {
				return nil, unavailable("read folder version", err)
			}
			if now != version(meta.Version) {
				return nil, fail(ErrStale)
			}
			return nil, fail(fmt.Errorf("%w: %d messages in %d blocks, %d in %d expected", ErrCorrupt, sum.Count, sum.Blocks, meta.Count, meta.Blocks))
		}
	}
	return blocks, nil
}
