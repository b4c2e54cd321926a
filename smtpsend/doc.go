// Package smtpsend queues messages, hands them to the submission server of their account,
// and records what became of them.
//
// The way of a message:
//
//	[Queue.Submit] → row and body in store → task send:submit → claim → MAIL … body → mark → dot → move
//	                                                                           → tasks send:after
//
// The truth is the row. Every step of it is one script of store that appends its events:
// [store.Store.AcceptSubmission], ClaimSubmission, MarkSubmission, MoveSubmission. What the
// next row and events are is decided by pure functions of the row, of what happened and of
// the time (machine.go, failed.go, deeds.go); what a failure means, by [Classify]. asynq
// carries, shows and wakes; its counters, retries and archive decide nothing, and flushing
// its keys costs seconds.
//
// # Sent once
//
// A reply decides. The mark is written before the final dot leaves, in the name of the
// claim: whoever lost the claim drops the connection without the dot. Without the mark
// the server cannot have the message, and it is queued again. With it and without a reply
// nobody knows: the row is unknown, and is not sent again unless somebody asks. What is
// sent is what was stored; a retry composes nothing.
//
// # One account's trouble
//
// The spool of an account is what it has due; its slots bound its transactions in all
// processes, and a tenth of the workers those in this one. A task that finds no slot ends,
// and who has a slot drains the spool. A failure of the account or its server puts the
// spool to sleep, and one submission is let through to probe when it wakes. What goes by
// gateways goes on meanwhile, and by one in trouble it waits alone. Of a host that fails for
// everybody one account is let through every 30 s, in each process. Transactions that take
// long do not count among the workers, and a host that hung has a share of its own until it
// answers.
//
// # Goroutines
//
// The asynq server owns those of handlers; a handler owns one account's turn, and beside
// each transaction a goroutine that renews its lease, which it joins. Sweeper.Run owns one
// loop, a timer of alarms, and joins both. An idle account has no goroutine, and no key.
//
// # Standards
//
// RFC 5321 (replies, 4.5.4.1 retries, 4.5.3.1.10 too many recipients), RFC 6409, RFC 3463,
// RFC 4954 section 6, RFC 1047 (the duplicate that a lost reply would make).
//
// # Not here
//
// Tracking and lists, templates, mail merge, OAuth 2.0 renewal and messageBounce of
// refusals come later. No order is promised between submissions.
package smtpsend
