// Package dispatch moves journal entries into the lanes of the webhook routes that want
// them, and delivers them over HTTP.
//
// The way of an event:
//
//	feed of a shard → [Relay] → lanes of a route → carrier (an asynq task) → [Deliverer] → POST
//
// The truth is in the keys of store: lanes, records, gates, dead letters. asynq carries,
// shows and wakes; its counters, retries and archive decide nothing, and flushing its
// keys costs ten seconds.
//
// A lane is the queue of one route and one account. It has at most one carrier, named by
// feed id and generation, and every write but the relay's append checks that name; so of
// two tasks that think they carry a lane, one can write nothing. A lane runs (with one of
// the route's slots), waits between two tries (with none), or is ready. The [Sweeper]
// gives a lane whose carrier was lost another one.
//
// Who is to blame for a failure is judged in two places. [Classify] and decide look at
// one delivery and are pure; the scripts of store look at the route (breaker, streak,
// pause, Retry-After), because several processes deliver for it at once.
//
// # Goroutines
//
// Relay.Run owns a fixed number of workers, each the only one to touch its shards.
// Sweeper.Run owns one loop and its timer. A snapshot of all routes is renewed by
// Table.Run once a second and swapped atomically. The asynq server owns the goroutines
// of handlers; a handler owns its lane while it holds the carrier, and nothing else.
//
// # Promises
//
// At least once; the same webhook-id and, from the first failure on, the same bytes for
// every attempt; in order per route and account, save for deliveries marked late. One
// attempt is in flight per lane, except across a lost lease.
//
// # Not here
//
// Custom routes, filters, templates, batches, foreign payload profiles, replay, the
// inspector's REST face, alert mail, secret rotation, OAuth 2.0 and client certificates
// have their place in the design and come later. Thin bodies come with message content:
// until then no event has content to leave out, and 413 is an http_4xx.
package dispatch
