// Package store is all durable state of Postrider, in Redis. It is the only code that
// knows our keys and scripts.
//
// # What it promises
//
// A change of state and the events it caused are one script ([Store.Commit]): before it
// nothing happened, after it the event will be delivered. Every write of a worker checks
// the fencing number of its lease and the version of what it was computed from; a write
// that is refused changed nothing. A write whose answer was lost may be repeated: it is
// recognised by its commit id.
//
// What processes compare (lease, fence, seq, dates of events) comes from Redis' clock,
// never from a machine's.
//
// Secrets are sealed by package secret before they are written, bound to their account
// and field. API tokens are kept as hashes.
//
// # Keys
//
// Everything of one account shares a shard tag {sNN}, NN = CRC-32 of the id modulo 64, so
// that state, journal and feed change in one script on a cluster too. The instance itself
// has the id "". All keys begin with the configured prefix. asynq's keys are its own;
// those of routes and lanes are listed in lanekeys.go.
//
//	key                     type    owner, content                                     TTL
//	{sNN}:accounts          hash    API: id -> account record, secrets sealed          none: source of truth
//	{sNN}:version           string  +1 with every change of an account of the shard    none
//	{sNN}:tombs             hash    deleted accounts, for a day: id -> webhook URL     swept after 24 h
//	{sNN}:leases            zset    id -> end of the lease in ms, 0 = free             none
//	{sNN}:alive             zset    id -> last proof of life in ms; negative: none     none
//	                                since then
//	{sNN}:feed              stream  pointers into journals: a account, s seq, t type   events.retention
//	{sNN}:trimmed           string  newest feed entry that was forgotten               none
//	{sNN}:a:ID:state        hash    epoch seq date init reason listV listN nextNum    none: source of truth
//	                                flush from sv status, smtp smtpV sentCopy, and cid c1 c2 cd of
//	                                the last commit
//	{sNN}:a:ID:lease        hash    fence (grows for ever), owner                      none
//	{sNN}:a:ID:folders      hash    number -> folder list entry                        none: source of truth
//	{sNN}:a:ID:f:NUM        hash    v version, m FolderMeta                            none: source of truth
//	{sNN}:a:ID:b:NUM        hash    uid/1024 -> block of messages (block.go)           none: source of truth
//	{sNN}:a:ID:recent       hash    identity -> places of the last 48 h, 10,000;       swept by commits
//	                                @folder.UIDVALIDITY.UID -> identity
//	{sNN}:a:ID:recentAt     zset    identity -> when, in ms                            swept by commits
//	{sNN}:a:ID:gone         hash    messageDeleted events that are held, by id         none: 60 s
//	{sNN}:a:ID:intents      hash    our own changes whose effect was not seen yet:     10 min
//	                                id -> when, in ms, and Intent; at most 1,000
//	{sNN}:a:ID:live         string  who has the connection that changes things         15 s
//	{sNN}:a:ID:liveAsk      string  who waits for it                                   2 s
//	{sNN}:a:ID:once         zset    ids of events appended without a lease             swept after 24 h
//	{sNN}:a:ID:journal      stream  id seq-0: d date in ms, x event JSON               events.retention
//	{sNN}:a:ID:outbox:spool hash    n bytes of what waits; paused; sleep why level     none
//	                                probe of a spool that sleeps or wakes; limit
//	{sNN}:a:ID:outbox:due   zset    submissions that wait -> when they are due, in ms  none
//	{sNN}:a:ID:outbox:gateway zset  likewise, those of them that go by a gateway       none
//	{sNN}:a:ID:outbox:STATE zset    all submissions of the account in a state; of      none
//	                                processing: the slots that are taken
//	{sNN}:a:ID:outbox:limits hash   m, h, H and minute or hour -> messages, messages,  25 h
//	                                recipients; approaching:, exceeded: and limit ->
//	                                start of the window in which it was told of; last
//	{sNN}:a:ID:outbox:keys:DAY hash digest of idempotency key -> queueId, hash, answer 3 d; counts 48 h
//	{sNN}:a:ID:outbox:log:WEEK hash digest of Message-ID -> queueId, date, keyed       sendLogDays, 7 d
//	                                digests of recipients: a line a submission
//	{sNN}:q:QUEUEID         hash    a submission: what scripts read, and JSON          see ended
//	{sNN}:q:QUEUEID:body    hash    number -> piece of the body (submissionbody.go)    1 h until accepted;
//	                                                                                   24 h once ended
//	{sNN}:outbox:work       zset    account -> when its next submission is due, in ms  none
//	{sNN}:outbox:leases     zset    claimed submissions -> end of the lease in ms      none
//	{sNN}:outbox:STATE      zset    all submissions of the shard in a state            none
//	{sNN}:outbox:ended      zset    submissions that ended -> when to remove them      sweep
//	{sNN}:outbox:unsettled  zset    unknown outcomes with recipients behind them ->    none
//	                                when these are given up
//	{sNN}:outbox:after      zset    submissions whose copy or flag is pending ->       none
//	                                when to look at them again
//	{sNN}:outbox:sum        hash    n bytes of what waits in the shard                 none
//	{sNN}:outbox:drops      zset    names of dropped:…                                 sweep
//	{sNN}:outbox:dropped:…  zset    what a deleted account had in a state              sweep
//	{settings}              hash    setting -> JSON, secrets sealed                    none: source of truth
//	{settings}:keycheck     string  a text sealed at first start                       none
//	{tokens}                hash    SHA-256 of the value -> Token                      none: source of truth
//	{gateways}              hash    id -> gateway record, secrets sealed               none: source of truth
//	{gateways}:use          hash    n:ID at:ID e:ID eAt:ID, see GatewayUse             none
//	{gateways}:gone:ID      string  it was deleted                                     24 h
//	{procs}                 zset    process -> end of its heartbeat in ms              swept by heartbeats
//	{ping}                  string  written and read by readiness                      1 min
//	hints                   channel "f:NN" new feed entries, "a:ID" look again         –
//
// # What may be lost
//
// With appendfsync everysec a power failure may cost Redis its last second. The same facts
// then give the same event ids again. An account whose state is gone is ErrStateLost, never
// a new account: see [Store.RestoreState], and [Store.RestoreUnwatched] where no worker does it.
package store
