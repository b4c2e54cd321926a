package store

import (
	"fmt"
	"hash/crc32"
	"strconv"
)

// Shards is how many ways accounts are spread; the number is part of the stored
// format and never changes.
const Shards = 64

// Shard is an account's shard: everything of one account carries its tag, so that
// state, journal and feed change in one script, on a cluster too. The instance
// itself ("") has a shard as well, for its own journal.
func Shard(id AccountID) int { return int(crc32.ChecksumIEEE([]byte(id)) % Shards) }

// keys builds every Redis key of the product; doc.go holds the table of them.
type keys struct{ prefix string }

func (k keys) shard(n int, rest string) string { return fmt.Sprintf("%s{s%02d}:%s", k.prefix, n, rest) }

func (k keys) ofAccount(id AccountID, rest string) string {
	return k.shard(Shard(id), "a:"+string(id)+":"+rest)
}

func (k keys) registry(n int) string     { return k.shard(n, "accounts") }
func (k keys) shardVersion(n int) string { return k.shard(n, "version") }
func (k keys) tombs(n int) string        { return k.shard(n, "tombs") }
func (k keys) leases(n int) string       { return k.shard(n, "leases") }
func (k keys) alive(n int) string        { return k.shard(n, "alive") }
func (k keys) trimmed(n int) string      { return k.shard(n, "trimmed") }
func (k keys) feed(n int) string         { return k.shard(n, "feed") }

func (k keys) state(id AccountID) string    { return k.ofAccount(id, "state") }
func (k keys) lease(id AccountID) string    { return k.ofAccount(id, "lease") }
func (k keys) folders(id AccountID) string  { return k.ofAccount(id, "folders") }
func (k keys) recent(id AccountID) string   { return k.ofAccount(id, "recent") }
func (k keys) gone(id AccountID) string     { return k.ofAccount(id, "gone") }
func (k keys) intents(id AccountID) string  { return k.ofAccount(id, "intents") }
func (k keys) live(id AccountID) string     { return k.ofAccount(id, "live") }
func (k keys) liveAsk(id AccountID) string  { return k.ofAccount(id, "liveAsk") }
func (k keys) once(id AccountID) string     { return k.ofAccount(id, "once") }
func (k keys) recentAt(id AccountID) string { return k.ofAccount(id, "recentAt") }
func (k keys) journal(id AccountID) string  { return k.ofAccount(id, "journal") }
func (k keys) folder(id AccountID, num uint32) string {
	return k.ofAccount(id, "f:"+strconv.FormatUint(uint64(num), 10))
}

func (k keys) blocks(id AccountID, num uint32) string {
	return k.ofAccount(id, "b:"+strconv.FormatUint(uint64(num), 10))
}

func (k keys) settings() string             { return k.prefix + "{settings}" }
func (k keys) tokens() string               { return k.prefix + "{tokens}" }
func (k keys) gateways() string             { return k.prefix + "{gateways}" }
func (k keys) gatewayUse() string           { return k.prefix + "{gateways}:use" }
func (k keys) gatewayGone(id string) string { return k.prefix + "{gateways}:gone:" + id }
func (k keys) procs() string                { return k.prefix + "{procs}" }
func (k keys) hints() string                { return k.prefix + "hints" }
func (k keys) keyCheck() string             { return k.prefix + "{settings}:keycheck" }

// Submissions. Their scripts make all keys of a shard from tag.
func (k keys) tag(n int) string                      { return k.shard(n, "") }
func (k keys) submission(id SubmissionID) string     { return k.shard(id.shard(), "q:"+string(id)) }
func (k keys) submissionBody(id SubmissionID) string { return k.submission(id) + ":body" }
func (k keys) outbox(n int, rest string) string      { return k.shard(n, "outbox:"+rest) }
func (k keys) outboxOf(id AccountID, rest string) string {
	return k.ofAccount(id, "outbox:"+rest)
}
