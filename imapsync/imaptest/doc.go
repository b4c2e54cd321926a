// Package imaptest holds IMAP servers for tests and for the demo: one in memory, real
// ones (Dovecot, Cyrus, Courier), and scripted ones that say whatever a test wants; with a second client
// that acts on a mailbox as another mail program would, and a reader of a server's
// state that shares no code with the engine it judges.
//
// # The model server
//
// [Model] is our own server in memory, for any number of users, over sockets, TLS or
// pipes. What it is like is data: a [Dialect] says which capabilities it advertises and
// does ([T0] to [T3] and what With and Without make of them), [Lies] what it gets wrong,
// changed while it runs, and a hook may answer, delay, swallow or drop any command.
//
//	m := imaptest.StartModel(t, imaptest.T1().With("NOTIFY")) // on a free port
//	u := m.User("jo", "secret")                               // a Mailbox, straight in memory
//	u.Lie(func(l *imaptest.Lies) { l.ChangedSinceIgnored = true })
//
// In a synctest bubble NewModel and Dial take the place of StartModel; its Close belongs
// inside the bubble. A user's Heard is the transcript of his sessions, Counters are what
// went through. RFC 3501 with LITERAL+, IDLE (2177), NAMESPACE (2342), UNSELECT (3691), UIDPLUS
// (4315), ESEARCH (4731), COMPRESS (4978), ENABLE (5161), LIST-EXTENDED and LIST-STATUS (5258,
// 5819), NOTIFY for selected and personal (5465), SPECIAL-USE (6154), MOVE (6851), CONDSTORE and
// QRESYNC (7162), OBJECTID (8474), ID (2971), and Gmail's labels and numbers. Not there: STARTTLS, BINARY,
// MULTIAPPEND, RENAME of INBOX, SEARCH results kept, other namespaces.
//
// [Relay] stands before a server and does to its bytes what networks and proxies do.
//
// It is imported by tests and the demo only, imports no engine and not the testing
// package: what takes a TB takes any *testing.T.
//
// Goroutines: Memory, Model and Relay have those of their listeners and connections (a
// Model one more for each pipe), joined at their end; a Script one per connection, joined
// by its cleanup; a real server is a child process with its children, ended with the test.
package imaptest

import (
	"context"
	"time"
)

// TB is what helpers need of a test.
type TB interface {
	Helper()
	Cleanup(func())
	Logf(format string, args ...any)
	Fatalf(format string, args ...any)
	Skipf(format string, args ...any)
	TempDir() string
}

// Mailbox is one user's account on a server, acted on by somebody who is not the
// engine under test. Methods MAY be called by many goroutines; they are done one at a time.
type Mailbox interface {
	// Append adds a message and returns its UID (0 where the server does not tell).
	Append(ctx context.Context, folder string, raw []byte, flags []string, date time.Time) (uint32, error)
	AddFlags(ctx context.Context, folder string, uids []uint32, flags ...string) error
	RemoveFlags(ctx context.Context, folder string, uids []uint32, flags ...string) error
	// Expunge flags the messages \Deleted and removes just them.
	Expunge(ctx context.Context, folder string, uids ...uint32) error
	Move(ctx context.Context, folder, to string, uids ...uint32) error
	Copy(ctx context.Context, folder, to string, uids ...uint32) error
	CreateFolder(ctx context.Context, folder string) error
	DeleteFolder(ctx context.Context, folder string) error
	RenameFolder(ctx context.Context, folder, to string) error
	// ResetUIDValidity gives a folder a new UIDVALIDITY; its messages stay, under the
	// same UIDs or others.
	ResetUIDValidity(ctx context.Context, folder string) error
	// Truth reads what is there, by folder name.
	Truth(ctx context.Context) (map[string]Folder, error)
	// Server is how to reach it.
	Server() Server
}

// Server is how to reach a server and log in.
type Server struct {
	Host       string
	Port       int
	User, Pass string
	CA         string // PEM of the certificate to trust; "" = no TLS
	// ImplicitTLS says that the port speaks TLS from the first byte; else CA means STARTTLS.
	ImplicitTLS bool
}

// Folder is what Truth saw of a folder.
type Folder struct {
	UIDValidity uint32
	UIDNext     uint32
	Messages    map[uint32][]string // UID → flags, sorted, without \Recent
}

// Message makes a small plain message with a Message-ID.
func Message(id, subject string) []byte {
	return []byte("From: Alice <alice@example.com>\r\nTo: Bob <bob@example.com>\r\nSubject: " + subject +
		"\r\nMessage-ID: <" + id + ">\r\nDate: Sun, 22 Nov 2026 10:00:00 +0000\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n\r\nHello " + id + "\r\n")
}
