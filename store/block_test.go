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
	for i, o := range offsets {
		set := rapid.SliceOfNDistinct(flag, 0, 4, rapid.ID[string]).Draw(t, "flags")
		slices.Sort(set)
		recs[i] = Record{UID: idx*blockSize + uint32(o), Flags: slices.Clip(set)}
		if len(set) == 0 {
			recs[i].Flags = nil
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
	for _, recs := range [][]Record{{}, {{UID: 1}}, {{UID: 1, Flags: []string{`\Seen`, "x"}}, {UID: 1023}}} {
		b, err := encodeBlock(0, recs)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(uint32(0), b)
		f.Add(uint32(7), b)
	}
	f.Fuzz(func(t *testing.T, idx uint32, data []byte) {
		recs, err := decodeBlock(idx, data)
		if err != nil {
			if !errors.Is(err, ErrCorrupt) {
				t.Fatalf("not ErrCorrupt: %v", err)
			}
			return
		}
		if _, err := encodeBlock(idx, recs); err != nil {
			t.Fatalf("what was read cannot be written: %v", err)
		}
	})
}
