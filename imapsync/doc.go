// Package imapsync watches accounts over IMAP and commits folder changes with the
// events they cause.
//
// # Goroutines
//
// A [Manager] reconciles which accounts should be watched with which are, by leases; it
// owns a goroutine for that, one that renews leases, one watchdog, one that records
// proofs of life, and one per account: the worker. The worker owns its [Session] and
// calls it alone; others may only Kick or Close it. It only waits on its own stack, and does
// all else aside, on a goroutine that it waits for (internal/aside). Folders that ask for a
// connection of their own have one goroutine each, which only waits in IDLE and wakes the
// worker; it ends with the worker's session, which waits for it. No state outlives a worker
// but what is in the store, so a worker that is killed at any line costs repeated work at
// most.
//
// # A pass
//
// A worker's life is pass, rest, pass. A pass lists the folders when that is due, asks
// for numbers (LIST-STATUS, else STATUS) to find the folders that are dirty, takes a
// step in each, and goes back to the main folder to rest in IDLE. Pushes are hints:
// they say that something may have changed, never what. With NOTIFY they come for all
// folders on the one connection, and probes are a slow second line behind them.
//
// A step opens a folder with EXAMINE and asks what differs from the state: messages
// above the cursor, what changed below it, and, when the number of messages does not
// come out as EXISTS, all UIDs. What changed is found in one of three tiers, chosen per
// folder by what the server does, not by what it says: with QRESYNC one question brings
// changed flags and vanished messages; with CONDSTORE changed flags; else flags are
// compared in windows of UIDs. A server that does not behave in a tier is latched down
// to the next for a week (latch.go), and a daily audit (audit.go) finds out who lies in
// silence. The answers are told to a draft, which is pure: it
// compares, makes the events, and becomes one commit, in which the cursors move
// together with the events.
//
// Where settings want more of a message than its envelope and structure, content.go reads
// it between the answer and the draft, message by message, within the memory that the
// process has for it; what it does not get is said in the event.
//
// # New mail alone
//
// Folders of an account whose imapIndexer is fast keep nothing of their messages (fast.go):
// what is new is told by the cursor, and neither changes nor deletions are. A folder's
// first look says how it is watched, for as long as its state lasts.
//
// # A flush
//
// Who wants an account to begin anew leaves a wish in its state (store.Flush), in the script
// that gives its configuration a new version, which ends the session. Before the next one
// (flush.go) held messages are told of; then one commit takes the wish away, begins a new
// epoch and leaves the folders with their numbers and nothing else, to be looked at as if for
// the first time. Dying anywhere repeats it or finds it done.
//
// # Moves
//
// A move is seen in two halves (moves.go, holds.go). A message that leaves with an
// identity goes from the blocks into the account's held messages, in one commit and
// without an event, until it is found in another folder or every other folder was
// looked at, at most a minute. A message that comes under an EMAILID that another
// folder has waits up to ten seconds for a look at that folder; what may be new mail
// waits for nobody. Only one candidate on each side is a link. Both waits are stored
// with their end, so that another worker goes on with them.
//
// # Our own changes
//
// An [Actor] appends, flags, moves and finds messages for the rest of the program, on a
// connection beside the watching one, owned by a goroutine of the account while it is in
// use; one process of the installation has it at a time, by a lease. Before a command it
// writes down an intent, behind it the result; it changes no cursor and no block. The step
// that sees an effect (own.go) says that it was ours, links the halves of a move by
// COPYUID, and consumes the intent in the commit of the event. An effect that goes beyond
// an intent has no cause; one that nobody saw within ten minutes is forgotten.
//
// # Labels
//
// Gmail's folders are labels (gmail.go). All Mail, Trash and Spam are watched, with labels
// beside flags in every question; the other folders are listed and left alone. Where All
// Mail is hidden from IMAP, or the account names other folders, those are folders like any
// others, whose messages have labels all the same.
//
// # Invariants
//
//   - A cursor moves only over what was consumed, in the commit with its events.
//   - A deletion needs the number of messages that are left to be that of EXISTS, after
//     what the server said vanished, or in a complete list of UIDs; a mass deletion needs
//     such a list half a minute later, on a folder opened anew. And what is told to be
//     gone was asked for by name, and did not come.
//   - That the number is right proves nothing while messages are counted that cannot be had,
//     or where UIDs were assigned that did not come: the folder is listed.
//   - What the server names and does not hand out is waited for and said, never skipped.
//   - One folder that refuses, one message that cannot be fetched, costs neither the
//     other messages nor the session.
//   - To watch, only EXAMINE, STATUS, LIST, UID FETCH with PEEK, UID SEARCH, NOOP, IDLE and
//     the login are used: nothing on the server changes by being watched. An [Actor] never
//     sends a bare EXPUNGE.
//
// # What stands where
//
// Package wire speaks to servers; client.go and its neighbours choose what is asked and
// what is made of the answers, behind [Session].
//
// RFC 3501 for everything; RFC 4731 (ESEARCH), RFC 5819 (LIST-STATUS), RFC 6154
// (SPECIAL-USE), RFC 7162 (CONDSTORE; of QRESYNC the FETCH modifier VANISHED, not the
// parameter of SELECT), RFC 8474 (OBJECTID), RFC 5465 (NOTIFY), RFC 4978 (COMPRESS), RFC
// 4315 (UIDPLUS) and RFC 6851 (MOVE) where the server has them, and as far as it behaves;
// likewise Gmail's X-GM-EXT-1.
package imapsync
