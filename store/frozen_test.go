package store_test

import (
	"encoding/json"
	"flag"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
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
	m := miniredis.RunT(t)
	rdb := redis.NewClient(&redis.Options{Addr: m.Addr()})
	t.Cleanup(func() { _ = rdb.Close() })
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
	if err != nil || st.Seq < 3 || st.NextNum != 6 || st.Status.State != store.StateConnected || !st.Initialized {
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
	if got := journal(t, s, a.ID); !strings.HasPrefix(strings.Join(got, ", "), "1 accountAdded, 2 messageDeleted, 3 messageDeleted") {
		t.Errorf("%v", got)
	}
	if tok, err := s.TokenByValue(t.Context(), strings.Repeat("frozen-token-", 3)); err != nil || tok.Scopes[0] != "*" {
		t.Errorf("%+v, %v", tok, err)
	}
	set, err := s.Settings(t.Context())
	if err != nil || set.Webhooks.Reveal() != "https://h.example/" || set.StallAfter != 900 {
		t.Errorf("%+v, %v", set, err)
	}
	if filepath.Base(filepath.Dir(path)) != "v1" { // which did not send
		loadFrozenOutbox(t, s, m)
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

// frozenIdempotency is the key under which the frozen submission was accepted.
var frozenIdempotency = store.Idempotency{Key: "order 7", Hash: [32]byte{7}, Answer: json.RawMessage(`{"queueId":"7"}`)}

// loadFrozenOutbox reads what writeFrozenOutbox wrote, on the day it did.
func loadFrozenOutbox(t *testing.T, s *store.Store, m *miniredis.Miniredis) {
	ctx := t.Context()
	page, err := s.Submissions(ctx, store.SubmissionQuery{Account: "support", Limit: 10})
	if err != nil || page.Total != 2 || len(page.Submissions) != 2 {
		t.Fatalf("%+v, %v", page, err)
	}
	sent, waits := page.Submissions[0], page.Submissions[1]
	m.SetTime(waits.Created.Add(time.Hour))
	want := frozenLetter(waits.ID)
	want.Epoch, want.State, want.Created, want.NextAttempt, want.Size, want.Pieces = waits.Epoch, store.SubmissionQueued, waits.Created, waits.Created.Add(time.Minute), 7, 1
	want.Attempt, want.Fence, want.Owner, want.Version, want.Op, want.ChargedAt = 1, 1, "p1", 3, waits.Op, waits.ChargedAt
	want.Charged, want.Last, want.IdempotencyKey = 1, &store.Outcome{At: waits.Created, Error: "451 later", ErrorCode: "EENVELOPE", ResponseCode: 451}, frozenIdempotency.Key
	if diff := cmp.Diff(want, waits); diff != "" || waits.ChargedAt.IsZero() {
		t.Error(diff)
	}
	if sent.State != store.SubmissionSent || sent.Ended.IsZero() {
		t.Errorf("%+v", sent)
	}
	r, err := s.OpenBody(ctx, waits)
	if err != nil {
		t.Fatal(err)
	}
	if body, err := io.ReadAll(r); err != nil || string(body) != "Hello\r\n" {
		t.Errorf("%q, %v", body, err)
	}
	if used, err := s.UsedKey(ctx, "support", frozenIdempotency); err != nil || !used.Hit || used.ID != waits.ID || string(used.Answer) != `{"queueId":"7"}` {
		t.Errorf("%+v, %v", used, err)
	}
	if es, err := s.SentMessage(ctx, "support", "<of.7@example.com>"); err != nil || len(es) != 1 || es[0].ID != sent.ID || !s.WasSentTo(es[0], "ada@example.net") {
		t.Errorf("%+v, %v", es, err)
	}
	claim := store.Claim{Account: "support", Owner: "p2", Lease: time.Minute, Slots: 1, Limits: store.Limits{PerDay: 2}}
	if c, err := s.ClaimSubmission(ctx, claim); err != nil || c.Answer != store.ClaimLimit { // two were charged
		t.Errorf("%+v, %v", c, err)
	}
	claim.Limits.PerDay = 3
	if c, err := s.ClaimSubmission(ctx, claim); err != nil || c.Answer != store.ClaimOK || c.Submission.Fence != 2 {
		t.Errorf("%+v, %v", c, err)
	}
	if sp, err := s.Spool(ctx, "support"); err != nil || sp.Rows != 1 || sp.Bytes != 7 || sp.Active != 1 {
		t.Errorf("%+v, %v", sp, err)
	}
	m.SetTime(waits.Created.Add(25 * time.Hour))
	if n, err := s.SweepOutbox(ctx); err != nil || n != 1 {
		t.Errorf("%d removed, %v", n, err)
	}
}

// frozenLetter is a submission that says everything a request can.
func frozenLetter(id store.SubmissionID) store.Submission {
	return store.Submission{
		ID: id, Account: "support", Source: "api", MessageID: "<of.7@example.com>", From: "sales@example.com",
		To: []string{"ada@example.net", "bob@example.net"}, Pending: []string{"bob@example.net"}, Subject: "Offer", Tag: "offer",
		Rejected: []store.Refusal{{Recipient: "eve@example.net", Response: "550 5.1.1 no", Code: 550, Enhanced: "5.1.1"}},
		Metadata: json.RawMessage(`{"k":1}`), Attempts: 10, Preset: "standard", Delays: []time.Duration{10 * time.Second, time.Minute},
		Gateway: "backup", DSN: &store.DSN{ID: "x", Return: "headers", Notify: []string{"failure"}}, RequireTLS: true, EightBit: true,
		OnUnknown: "hold", Reference: &store.Reference{Message: "AAAAAQAAEmc", Action: "reply"}, Copy: new(true), SentMailPath: "Sent",
	}
}

// writeFrozenOutbox stores a submission that was sent, and one whose first attempt failed.
func writeFrozenOutbox(t *testing.T, s *store.Store) {
	ctx := t.Context()
	claim := store.Claim{Account: "support", Owner: "p1", Lease: time.Minute, Slots: 1, Limits: store.Limits{PerDay: 10}}
	for i := range 2 {
		now := time.Now()
		a := store.Accept{Submission: frozenLetter(store.NewSubmissionID("support", now)), Body: strings.NewReader("Hello\r\n")}
		if i == 0 {
			a.Idempotency = &frozenIdempotency
		}
		if _, err := s.AcceptSubmission(ctx, a); err != nil {
			t.Fatal(err)
		}
		c, err := s.ClaimSubmission(ctx, claim)
		if err != nil || c.Answer != store.ClaimOK {
			t.Fatal(c, err)
		}
		next, ops := c.Submission, store.MoveOps{}
		if next.State, next.NextAttempt = store.SubmissionQueued, next.Created.Add(time.Minute); i == 0 {
			next.Charged, next.Last = 1, &store.Outcome{At: next.Created, Error: "451 later", ErrorCode: "EENVELOPE", ResponseCode: 451}
		} else {
			next.State, next.Ended = store.SubmissionSent, next.Created
			ops.SentLog = &store.SentLog{MessageIDs: []string{next.MessageID}, Recipients: next.To, At: next.Ended}
		}
		if _, err := s.MoveSubmission(ctx, c.Submission, next, nil, ops); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * time.Millisecond) // of another millisecond, so that ids are in order
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
	writeFrozenOutbox(t, s)
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
