// Package imaptest holds IMAP servers for tests and for the demo: one in memory, real
// ones (Dovecot, Cyrus), and scripted ones that say whatever a test wants; with a second client
// that acts on a mailbox as another mail program would, and a reader of a server's
// state that shares no code with the engine it judges.
//
// It is imported by tests and the demo only, imports no engine and not the testing
// package: what takes a TB takes any *testing.T.
//
// Goroutines: Memory and Fleet have those of their listeners and connections, joined at
// their end; a Script one per connection, joined by its cleanup; a real server is a child
// process with its children, ended with the test.
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
