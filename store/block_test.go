package store

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// records draws the messages of one block.
func records(t *rapid.T, idx uint32) []Record {
	flag := rapid.SampledFrom([]string{`\Seen`, `\Flagged`, `\Answered`, `\Draft`, `\Deleted`, "$Junk", "työ", "a b", ""})
	offsets := rapid.SliceOfDistinct(rapid.IntRange(0, blockSize-1), rapid.ID[int]).Draw(t, "offsets")
	slices.Sort(offsets)
	recs := make([]Record, len(offsets))
	// ids of one shape, as a server gives them, and of any
	id := rapid.SampledFrom([]*rapid.Generator[string]{
		rapid.Just(""), rapid.StringMatching(`M[0-9a-f]{24}`), rapid.StringMatching(`[0-9a-f]{3}`), rapid.StringMatching(`[1-9][0-9]{0,18}`),
		rapid.StringMatching(`[1-9][0-9]{3}|`), rapid.StringMatching(`0?[0-9A-Za-z_-]{1,20}`), rapid.StringMatching(`M[0-9a-f]{2}|`),
	})
	emailID, threadID := id.Draw(t, "shape of ids"), id.Draw(t, "shape of thread ids")
	label := rapid.SampledFrom([]string{`\Inbox`, `\Sent`, `\Starred`, "work", "työ/a b"})
	full := rapid.Bool().Draw(t, "full")
	for i, o := range offsets {
		set := rapid.SliceOfNDistinct(flag, 0, 4, rapid.ID[string]).Draw(t, "flags")
		slices.Sort(set)
		recs[i] = Record{UID: idx*blockSize + uint32(o), Flags: slices.Clip(set)}
		if len(set) == 0 {
			recs[i].Flags = nil
		}
		recs[i].EmailID, recs[i].ThreadID = emailID.Draw(t, "id"), threadID.Draw(t, "thread")
		if labels := rapid.SliceOfNDistinct(label, 0, 3, rapid.ID[string]).Draw(t, "labels"); len(labels) > 0 {
			slices.Sort(labels)
			recs[i].Labels = slices.Clip(labels)
		}
		if full {
			recs[i].Print, recs[i].MessageID = rapid.Uint64().Draw(t, "print"), rapid.StringMatching(`(<[a-z]{1,9}@x>)?`).Draw(t, "message id")
		}
	}
	return recs
}

func TestBlock_round_trip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		idx := rapid.SampledFrom([]uint32{0, 1, 4194303}).Draw(t, "idx")
		want := records(t, idx)
		b, err := encodeBlock(idx, want)
		if err != nil {
			t.Fatal(err)
		}
		got, err := decodeBlock(idx, b)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got); diff != "" && len(want) > 0 {
			t.Fatal(diff)
		}
		uids, err := decodeUIDs(idx, b)
		if err != nil || len(uids) != len(want) {
			t.Fatalf("%d UIDs, %v", len(uids), err)
		}
		_, _ = decodeUIDs(idx, sealBlock(make([]byte, blockSize))) // what was read is ours
		for i, uid := range uids {
			if uid != want[i].UID {
				t.Fatalf("UID %d is read as %d", want[i].UID, uid)
			}
		}
	})
}

func TestBlock_more_than_255_flag_sets(t *testing.T) {
	recs := make([]Record, blockSize)
	for i := range recs {
		recs[i] = Record{UID: uint32(i), Flags: []string{fmt.Sprintf("k%04d", i)}}
	}
	b, err := encodeBlock(0, recs)
	if err != nil {
		t.Fatal(err)
	}
	got, err := decodeBlock(0, b)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(recs, got); diff != "" {
		t.Error(diff)
	}
}

// What a block costs is a claim of the design: 1.0 byte a message with nine keywords.
func TestBlock_costs_about_a_byte_a_message(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	recs := make([]Record, 0, blockSize)
	for uid := range uint32(blockSize) {
		if r.IntN(10) == 0 {
			continue // gaps
		}
		flags := []string{`\Seen`}
		if r.IntN(5) == 0 {
			flags = append(flags, fmt.Sprintf("$Label%d", r.IntN(9)))
		}
		recs = append(recs, Record{UID: uid, Flags: flags})
	}
	b, err := encodeBlock(0, recs)
	if err != nil {
		t.Fatal(err)
	}
	if per := float64(len(b)) / float64(len(recs)); per > 1.5 {
		t.Errorf("%.2f bytes a message", per)
	}
}

// What identities cost: numbers and the usual shape of RFC 8474's take their bytes.
func TestBlock_packs_identities(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	for _, tt := range []struct {
		name string
		id   func() string
		most float64 // bytes a message beyond UID and flags
	}{
		{"gmail", func() string { return fmt.Sprint(r.Uint64() >> 1) }, 8.2},
		{"8 bytes of hex", func() string { return fmt.Sprintf("%016x", r.Uint64()) }, 8.2},
		{"cyrus", func() string { return fmt.Sprintf("M%016x%08x", r.Uint64(), r.Uint32()) }, 12.3},
	} {
		recs := make([]Record, blockSize)
		for i := range recs {
			recs[i].UID = uint32(i)
		}
		bare, err := encodeBlock(0, recs)
		if err != nil {
			t.Fatal(err)
		}
		for i := range recs {
			recs[i].EmailID = tt.id()
		}
		b, err := encodeBlock(0, recs)
		if err != nil {
			t.Fatal(err)
		}
		if per := float64(len(b)-len(bare)) / blockSize; per > tt.most {
			t.Errorf("%s: %.1f bytes a message", tt.name, per)
		}
	}
}

func TestBlock_with_a_column_of_a_later_version_is_refused(t *testing.T) {
	b := sealBlock([]byte{blockVersion, columnUID | columnFlags | 1<<7, 0})
	if _, err := decodeBlock(0, b); !errors.Is(err, ErrCorrupt) {
		t.Errorf("%v", err)
	}
	if _, err := decodeUIDs(0, b); !errors.Is(err, ErrCorrupt) {
		t.Errorf("%v", err)
	}
}

func TestBlock_refuses_what_is_out_of_place(t *testing.T) {
	for name, recs := range map[string][]Record{
		"another block's UID": {{UID: 1024}},
		"descending":          {{UID: 2}, {UID: 1}},
		"twice":               {{UID: 2}, {UID: 2}},
	} {
		if _, err := encodeBlock(0, recs); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func FuzzBlock(f *testing.F) {
	for _, recs := range [][]Record{{}, {{UID: 1}}, {{UID: 1, Flags: []string{`\Seen`, "x"}}, {UID: 1023}}, {
		{UID: 3, EmailID: "Mab12", ThreadID: "Tcd", Labels: []string{`\Inbox`, "x"}, Print: 7, MessageID: "<a@x>"},
		{UID: 4, EmailID: "Mab13", ThreadID: "Tcd"},
	}, {{UID: 5, EmailID: "17"}, {UID: 6}}, {{UID: 5, EmailID: "x-y", ThreadID: "9"}, {UID: 6, Labels: []string{"z"}}}} {
		b, err := encodeBlock(0, recs)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(uint32(0), b, false)
		f.Add(uint32(7), b, false)
		raw, err := coder().dec.DecodeAll(b, nil)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(uint32(0), raw[:len(raw)-4], true)
	}
	f.Fuzz(func(t *testing.T, idx uint32, data []byte, seal bool) {
		if seal { // columns that are wrong behind a checksum that is right
			data = sealBlock(data)
		}
		recs, err := decodeBlock(idx, data)
		if err != nil {
			if !errors.Is(err, ErrCorrupt) {
				t.Fatalf("not ErrCorrupt: %v", err)
			}
			if _, err := decodeUIDs(idx, data); err != nil && !errors.Is(err, ErrCorrupt) {
				t.Fatalf("not ErrCorrupt: %v", err)
			}
			return
		}
		again, err := encodeBlock(idx, recs)
		if err != nil {
			t.Fatalf("what was read cannot be written: %v", err)
		}
		if back, err := decodeBlock(idx, again); err != nil || len(back) != len(recs) {
			t.Fatalf("what was written cannot be read: %v", err)
		}
	})
}
