package store_test

import (
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/redis/go-redis/v9"

	"github.com/postrider/postrider/store"
	"github.com/postrider/postrider/store/secret"
	"github.com/postrider/postrider/store/storetest"
)

var freeze = flag.String("freeze", "", "write what this version stores as testdata/frozen/`VERSION`")

// frozenKey is one Redis key as a frozen file has it; binary values are base64.
type frozenKey struct {
	Hash   map[string][]byte  `json:"hash,omitempty"`
	Zset   map[string]float64 `json:"zset,omitempty"`
	Stream []redis.XMessage   `json:"stream,omitempty"`
	String *string            `json:"string,omitempty"`
}

// What an older version wrote still loads. Files are added with a version, never edited.
func TestFrozen(t *testing.T) {
	if *freeze != "" {
		writeFrozen(t, filepath.Join("testdata", "frozen", *freeze))
	}
	files, err := filepath.Glob("testdata/frozen/*/redis.json")
	if err != nil || len(files) == 0 {
		t.Fatalf("no frozen state: %v", err)
	}
	for _, f := range files {
		t.Run(filepath.Base(filepath.Dir(f)), func(t *testing.T) { loadFrozen(t, f) })
	}
}

func loadFrozen(t *testing.T, path string) {
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var keys map[string]frozenKey
	if err := json.Unmarshal(b, &keys); err != nil {
		t.Fatal(err)
	}
	rdb := storetest.MiniredisClient(t)
	for name, k := range keys {
		for field, v := range k.Hash {
			rdb.HSet(t.Context(), name, field, v)
		}
		for member, score := range k.Zset {
			rdb.ZAdd(t.Context(), name, redis.Z{Score: score, Member: member})
		}
		for _, m := range k.Stream {
			rdb.XAdd(t.Context(), &redis.XAddArgs{Stream: name, ID: m.ID, Values: m.Values})
		}
		if k.String != nil {
			rdb.Set(t.Context(), name, *k.String, 0)
		}
	}
	s := storetest.On(t, rdb)
	if err := s.CheckKeys(t.Context()); err != nil {
		t.Error(err)
	}
	a, err := s.Account(t.Context(), "support")
	if err != nil {
		t.Fatal(err)
	}
	want := support()
	want.Version, want.Epoch, want.Created, want.Updated, want.NotifyFrom = a.Version, a.Epoch, a.Created, a.Updated, a.NotifyFrom
	if diff := cmp.Diff(want, a, cmp.AllowUnexported(secret.Text{})); diff != "" {
		t.Error(diff)
	}
	st, err := s.State(t.Context(), a.ID)
	if err != nil || st.Seq != 3 || st.NextNum != 6 || st.Status.State != store.StateConnected || !st.Initialized {
		t.Errorf("%+v, %v", st, err)
	}
	meta, err := s.FolderMeta(t.Context(), a.ID, 5)
	if err != nil {
		t.Fatal(err)
	}
	blocks, err := s.Blocks(t.Context(), a.ID, 5, meta)
	if err != nil || len(blocks) != 2 || blocks[0][0].Flags[0] != `\Seen` {
		t.Errorf("%v, %v", blocks, err)
	}
	if got := journal(t, s, a.ID); strings.Join(got, ", ") != "1 accountAdded, 2 messageDeleted, 3 messageDeleted" {
		t.Errorf("%v", got)
	}
	if tok, err := s.TokenByValue(t.Context(), strings.Repeat("frozen-token-", 3)); err != nil || tok.Scopes[0] != "*" {
		t.Errorf("%+v, %v", tok, err)
	}
	set, err := s.Settings(t.Context())
	if err != nil || set.Webhooks.Reveal() != "https://h.example/" || set.StallAfter != 900 {
		t.Errorf("%+v, %v", set, err)
	}
	// and goes on
	l, err := s.Acquire(t.Context(), a.ID, "p1", time.Minute) // who held it then
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Commit(t.Context(), l, store.Change{Folders: []store.FolderChange{{Num: 5, Version: meta.Version, Drop: true}}}); err != nil {
		t.Error(err)
	}
}

// writeFrozen stores one of everything and writes all keys down.
func writeFrozen(t *testing.T, dir string) {
	rdb := storetest.MiniredisClient(t)
	s := storetest.On(t, rdb)
	a, l := create(t, s)
	if _, err := s.Commit(t.Context(), l, folderChange(a)); err != nil {
		t.Fatal(err)
	}
	if err := s.ImportToken(t.Context(), strings.Repeat("frozen-token-", 3), store.Token{Scopes: []string{"*"}}); err != nil {
		t.Fatal(err)
	}
	if _, err := s.UpdateSettings(t.Context(), map[string]json.RawMessage{
		"webhooks": json.RawMessage(`"https://h.example/"`), "stallAfter": json.RawMessage(`900`),
	}); err != nil {
		t.Fatal(err)
	}
	if err := s.CheckKeys(t.Context()); err != nil {
		t.Fatal(err)
	}
	out := map[string]frozenKey{}
	for _, name := range rdb.Keys(t.Context(), "*").Val() {
		var k frozenKey
		switch rdb.Type(t.Context(), name).Val() {
		case "hash":
			k.Hash = map[string][]byte{}
			for f, v := range rdb.HGetAll(t.Context(), name).Val() {
				k.Hash[f] = []byte(v)
			}
		case "zset":
			k.Zset = map[string]float64{}
			for _, z := range rdb.ZRangeWithScores(t.Context(), name, 0, -1).Val() {
				k.Zset[z.Member.(string)] = z.Score
			}
		case "stream":
			k.Stream = rdb.XRange(t.Context(), name, "-", "+").Val()
		case "string":
			v := rdb.Get(t.Context(), name).Val()
			k.String = &v
		}
		out[name] = k
	}
	b, err := json.MarshalIndent(out, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "redis.json")
	if _, err := os.Stat(path); err == nil {
		t.Fatalf("%s exists: frozen state is added, never edited", path)
	}
	if err := os.WriteFile(path, append(b, '\n'), 0o644); err != nil {
		t.Fatal(err)
	}
}
