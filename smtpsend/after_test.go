package smtpsend_test

import (
	"cmp"
	"context"
	"errors"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/postrider/postrider/events"
	"github.com/postrider/postrider/smtpsend"
	"github.com/postrider/postrider/smtpsend/compose"
	"github.com/postrider/postrider/smtpsend/transport"
	"github.com/postrider/postrider/store"
)

// mailbox is what an account's folders hold, for tests.
type mailbox struct {
	mu    sync.Mutex
	sent  []string // messages in Sent
	asked int      // Finds
	flags []string // message and flag
	err   error    // of everything
}

func (m *mailbox) Find(_ context.Context, _ store.AccountID, folder, id string) (n int, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.asked++
	for _, raw := range m.sent {
		if folder == `\Sent` && strings.Contains(raw, "Message-ID: "+id) {
			n++
		}
	}
	return n, m.err
}

func (m *mailbox) Append(_ context.Context, _ store.AccountID, _ string, c smtpsend.SentCopy) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	raw, err := io.ReadAll(c.Raw)
	if err == nil && m.err == nil {
		m.sent = append(m.sent, string(raw))
	}
	return errors.Join(err, m.err)
}

func (m *mailbox) AddFlags(_ context.Context, _ store.AccountID, message string, flags ...string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.err == nil {
		m.flags = append(m.flags, message+strings.Join(flags, ""))
	}
	return m.err
}

// put is the server's own doing.
func (m *mailbox) put(raw string) {
	m.mu.Lock()
	m.sent = append(m.sent, raw)
	m.mu.Unlock()
}

func (m *mailbox) fail(err error) {
	m.mu.Lock()
	m.err = err
	m.mu.Unlock()
}

func (m *mailbox) count() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.sent)
}

// finds says how often a message was looked for.
func (m *mailbox) finds() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.asked
}

func (m *mailbox) flagged() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.flags)
}

func (m *mailbox) Original(context.Context, store.AccountID, string) (compose.Original, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return compose.Original{}, m.err
}

// Attachment knows one, "known".
func (m *mailbox) Attachment(_ context.Context, _ store.AccountID, id string) (compose.Attachment, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.err != nil || id != "known" {
		return compose.Attachment{}, cmp.Or(m.err, smtpsend.ErrNoMessage)
	}
	return compose.Attachment{
		Filename: "there.pdf", ContentType: "application/pdf", Size: -1,
		Open: func() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader("of the mailbox")), nil },
	}, nil
}

// withMailbox is a bubble whose account has one; its submission server is at host.
func withMailbox(t *testing.T, host string, f func(t *testing.T, h *house, box *mailbox), change ...func(*smtpsend.Options)) {
	t.Helper()
	box := &mailbox{}
	bubble(t, func(t *testing.T, h *house) {
		h.account("ada", func(a *store.Account) {
			a.SMTP.Host = host
			a.IMAP = &store.Server{Host: "imap.example.com", Port: 993, Secure: true}
		})
		f(t, h, box)
	}, append(change, func(o *smtpsend.Options) { o.Mailbox, o.Reader = box, box })...)
}

func TestCopy(t *testing.T) {
	no, yes := false, true
	for name, tt := range map[string]struct {
		host   string
		copy   *bool
		server bool // it keeps copies itself
		want   int  // messages in Sent
		state  string
	}{
		"by us":                               {"mail.example.com", nil, false, 1, smtpsend.AfterDone},
		"by us, and the server had done it":   {"mail.example.com", nil, true, 1, smtpsend.AfterFound},
		"by the server":                       {"smtp.gmail.com", nil, true, 1, ""},
		"by who knows, the server":            {"smtp.mail.me.com", nil, true, 1, smtpsend.AfterFound},
		"by who knows, nobody":                {"smtp.mail.me.com", nil, false, 1, smtpsend.AfterDone},
		"not wanted":                          {"mail.example.com", &no, false, 0, ""},
		"wanted, where the server does it":    {"smtp.gmail.com", &yes, true, 1, smtpsend.AfterFound},
		"wanted, where the server forgets it": {"smtp.gmail.com", &yes, false, 1, smtpsend.AfterDone},
	} {
		t.Run(name, func(t *testing.T) {
			withMailbox(t, tt.host, func(t *testing.T, h *house, box *mailbox) {
				h.sink.set(func(x *tx) error {
					body, err := x.body()
					if tt.server {
						box.put(body)
					}
					return err
				})
				r := request("ada", "bob@example.net")
				r.Copy = tt.copy
				id := h.submit(r)
				time.Sleep(40 * time.Second)
				row := h.row(id)
				if row.State != store.SubmissionSent || box.count() != tt.want || row.CopyState != tt.state {
					t.Errorf("%s, %d in Sent, copy %q %q", row.State, box.count(), row.CopyState, row.CopyError)
				}
				if _, err := h.store.OpenBody(t.Context(), row); !errors.Is(err, store.ErrNotFound) {
					t.Errorf("the body is kept: %v", err)
				}
			})
		})
	}
}

// A server that was seen three times to keep copies itself is trusted to.
func TestCopy_learns(t *testing.T) {
	withMailbox(t, "smtp.mail.me.com", func(t *testing.T, h *house, box *mailbox) {
		h.sink.set(func(x *tx) error {
			body, err := x.body()
			box.put(body)
			return err
		})
		for range 3 {
			h.submit(request("ada", "bob@example.net"))
			time.Sleep(10 * time.Second)
		}
		asked := box.finds()
		id := h.submit(request("ada", "bob@example.net"))
		time.Sleep(40 * time.Second)
		if row := h.row(id); row.CopyState != "" || box.finds() != asked || box.count() != 4 {
			t.Errorf("%q, asked %d times more, %d in Sent", row.CopyState, box.finds()-asked, box.count())
		}
	})
}

// What is in Sent under an id that the caller gave says nothing about the server.
func TestCopy_learns_nothing_of_the_callers_id(t *testing.T) {
	withMailbox(t, "mail.example.com", func(t *testing.T, h *house, box *mailbox) {
		box.put("Message-ID: <mine@example.com>\r\n")
		r := request("ada", "bob@example.net")
		r.Message.MessageID = "<mine@example.com>"
		for range 3 {
			h.submit(r)
			time.Sleep(10 * time.Second)
		}
		id := h.submit(request("ada", "bob@example.net"))
		time.Sleep(40 * time.Second)
		if row := h.row(id); row.CopyState != smtpsend.AfterDone || box.count() != 2 {
			t.Errorf("%q, %d in Sent", row.CopyState, box.count())
		}
	})
}

// A copy that cannot be made is tried for a while, shows on the row, and changes nothing
// about the message.
func TestCopy_fails(t *testing.T) {
	withMailbox(t, "mail.example.com", func(t *testing.T, h *house, box *mailbox) {
		box.fail(errors.New("mailbox is full"))
		id := h.submit(request("ada", "bob@example.net"))
		time.Sleep(5 * time.Minute)
		if row := h.row(id); row.State != store.SubmissionSent || row.CopyState != smtpsend.AfterPending || row.CopyError != "mailbox is full" {
			t.Errorf("%s, copy %q %q", row.State, row.CopyState, row.CopyError)
		}
		box.fail(nil)
		time.Sleep(15 * time.Minute)
		if row := h.row(id); row.CopyState != smtpsend.AfterDone || row.CopyError != "" || box.count() != 1 {
			t.Errorf("copy %q %q, %d in Sent", row.CopyState, row.CopyError, box.count())
		}
		box.fail(smtpsend.ErrNoFolder)
		id = h.submit(request("ada", "bob@example.net"))
		time.Sleep(time.Minute)
		if row := h.row(id); row.CopyState != smtpsend.AfterSkipped || row.CopyError != "NoSentFolder" {
			t.Errorf("copy %q %q", row.CopyState, row.CopyError)
		}
		if told := h.short("ada"); !slices.Equal(told, []string{"Queued", "Sent", "Queued", "Sent"}) {
			t.Error(told)
		}
	}, slowly)
}

// Who has a message has its copy, too, where it is cancelled for the rest.
func TestCopy_of_what_is_cancelled(t *testing.T) {
	withMailbox(t, "mail.example.com", func(t *testing.T, h *house, box *mailbox) {
		box.fail(errors.New("mailbox is away"))
		h.sink.set(func(x *tx) error {
			x.receipt.Accepted = x.env.To[:1]
			x.receipt.Refused = []transport.Refusal{{Recipient: x.env.To[1], Code: 450, Response: "450 4.2.0 later"}}
			return nil
		})
		r := request("ada", "bob@example.net", "cem@example.net")
		r.Preset = "mta"
		id := h.submit(r)
		time.Sleep(time.Minute)
		if _, err := h.Queue.Cancel(t.Context(), id); err != nil {
			t.Fatal(err)
		}
		box.fail(nil)
		time.Sleep(30 * time.Minute)
		row := h.row(id)
		if row.State != store.SubmissionCanceled || row.CopyState != smtpsend.AfterDone || box.count() != 1 {
			t.Errorf("%s, copy %q %q, %d in Sent", row.State, row.CopyState, row.CopyError, box.count())
		}
		if _, err := h.store.OpenBody(t.Context(), row); !errors.Is(err, store.ErrNotFound) {
			t.Errorf("the body is kept: %v", err)
		}
	}, slowly)
}

// What is answered is marked when the answer is sent, and not before.
func TestFlag(t *testing.T) {
	for action, flag := range map[compose.Action]string{compose.Reply: `\Answered`, compose.Forward: "$Forwarded"} {
		withMailbox(t, "smtp.gmail.com", func(t *testing.T, h *house, box *mailbox) {
			h.sink.set(func(x *tx) error {
				if x.n == 0 {
					return lost(transport.PhaseMail)
				}
				return nil
			})
			r := request("ada", "bob@example.net")
			r.Reference = &smtpsend.Reference{Message: "AAAAAQAAAAE", Action: action}
			id := h.submit(r)
			time.Sleep(5 * time.Second)
			if len(box.flagged()) != 0 {
				t.Errorf("%v before it was sent", box.flagged())
			}
			time.Sleep(40 * time.Second)
			if row := h.row(id); row.FlagState != smtpsend.AfterDone || !slices.Equal(box.flagged(), []string{"AAAAAQAAAAE" + flag}) {
				t.Errorf("%v, flag %q", box.flagged(), row.FlagState)
			}
		})
	}
}

// The copy that a provider keeps proves that it took a message whose outcome was unknown.
func TestUnknown_is_in_Sent(t *testing.T) {
	withMailbox(t, "smtp.gmail.com", func(t *testing.T, h *house, box *mailbox) {
		h.sink.set(func(x *tx) error {
			body, err := x.body()
			if err == nil {
				err = x.mark()
			}
			if err != nil {
				return err
			}
			time.AfterFunc(90*time.Second, func() { box.put(body) })
			return &transport.Error{Phase: transport.PhaseDot, Kind: transport.KindSocket, Unknown: true, Accepted: x.env.To, Err: net.ErrClosed}
		})
		id := h.submit(request("ada", "bob@example.net"))
		time.Sleep(80 * time.Second)
		if row := h.row(id); row.State != store.SubmissionUnknown {
			t.Errorf("%s", row.State)
		}
		time.Sleep(2 * time.Minute)
		sent := h.events("ada", events.MessageSentType)
		if row := h.row(id); row.State != store.SubmissionSent || row.Last.Error != "" || len(sent) != 1 || field(sent[0], "confirmedBy") != "sentFolder" {
			t.Errorf("%s, last %+v, %v", row.State, row.Last, sent)
		}
		if len(h.sink.tried()) != 1 || box.count() != 1 {
			t.Errorf("%d tries, %d in Sent", len(h.sink.tried()), box.count())
		}
	}, slowly)
}

// The copy of a transaction that was taken before says nothing about the one whose outcome
// is unknown: that was for others.
func TestUnknown_copy_of_another_transaction(t *testing.T) {
	withMailbox(t, "smtp.gmail.com", func(t *testing.T, h *house, box *mailbox) {
		h.sink.set(func(x *tx) error {
			body, err := x.body()
			if err == nil && x.n > 0 {
				err = x.mark()
			}
			switch {
			case err != nil:
				return err
			case x.n > 0:
				return &transport.Error{Phase: transport.PhaseDot, Kind: transport.KindSocket, Unknown: true, Accepted: x.env.To, Err: net.ErrClosed}
			}
			box.put(body)
			x.receipt.Accepted = x.env.To[:1]
			x.receipt.Refused = []transport.Refusal{{Recipient: x.env.To[1], Code: 450, Response: "450 4.2.0 later"}}
			return nil
		})
		id := h.submit(request("ada", "bob@example.net", "cem@example.net"))
		time.Sleep(3 * time.Minute)
		if row := h.row(id); row.State != store.SubmissionUnknown || !slices.Equal(row.Pending, []string{"cem@example.net"}) {
			t.Errorf("%s, pending %v", row.State, row.Pending)
		}
		if told := h.short("ada"); !slices.Equal(told, []string{"Queued", "Sent", "Held"}) {
			t.Error(told)
		}
	}, slowly)
}

// A Message-ID of the caller's may stand in Sent already: he put a message there, or sent it
// to somebody else before. That proves nothing for the one whose outcome is unknown.
func TestUnknown_another_message_of_that_id(t *testing.T) {
	for name, give := range map[string]func(r *smtpsend.Request, to string){
		"given": func(r *smtpsend.Request, to string) {
			r.Message.MessageID, r.Message.To = "<mine@example.com>", []compose.Address{{Address: to}}
		},
		"in the raw message": func(r *smtpsend.Request, to string) {
			r.Message = compose.Message{Raw: []byte("Message-ID: <mine@example.com>\r\nTo: " + to + "\r\n\r\nGood day.\r\n")}
		},
	} {
		t.Run(name, func(t *testing.T) {
			withMailbox(t, "smtp.gmail.com", func(t *testing.T, h *house, box *mailbox) {
				h.sink.set(func(x *tx) error {
					body, err := x.body()
					if err == nil && x.n == 0 {
						box.put(body)
						return nil
					}
					if err == nil {
						err = x.mark()
					}
					if err != nil {
						return err
					}
					return &transport.Error{Phase: transport.PhaseDot, Kind: transport.KindSocket, Unknown: true, Accepted: x.env.To, Err: net.ErrClosed}
				})
				r := request("ada")
				give(&r, "bob@example.net")
				h.submit(r)
				time.Sleep(30 * time.Second)
				give(&r, "cem@example.net")
				id := h.submit(r)
				time.Sleep(3 * time.Minute)
				if row := h.row(id); row.State != store.SubmissionUnknown || box.count() != 1 {
					t.Errorf("to who may have got nothing: %s, confirmed by %q, %d in Sent", row.State, row.ConfirmedBy, box.count())
				}
			}, slowly)
		})
	}
}

// What fails after a part was sent does not have a row forgotten whose outcome is unknown.
func TestUnknown_is_kept(t *testing.T) {
	withMailbox(t, "smtp.gmail.com", func(t *testing.T, h *house, box *mailbox) {
		h.sink.set(func(x *tx) error {
			if x.n > 0 {
				if err := x.mark(); err != nil {
					return err
				}
				return &transport.Error{Phase: transport.PhaseDot, Kind: transport.KindSocket, Unknown: true, Accepted: x.env.To, Err: net.ErrClosed}
			}
			box.fail(errors.New("mailbox is away"))
			x.receipt.Accepted = x.env.To[:1]
			x.receipt.Refused = []transport.Refusal{{Recipient: x.env.To[1], Code: 450, Response: "450 4.2.0 later"}}
			return nil
		})
		r := request("ada", "bob@example.net", "cem@example.net")
		r.Reference = &smtpsend.Reference{Message: "AAAAAQAAAAE", Action: compose.Reply}
		id := h.submit(r)
		time.Sleep(20 * time.Minute) // some tries of the flag, and rounds of the sweeper
		if row := h.row(id); row.State != store.SubmissionUnknown || row.FlagError != "mailbox is away" {
			t.Errorf("%s, flag %q %q", row.State, row.FlagState, row.FlagError)
		}
	}, slowly)
}

// An attachment of the mailbox goes along, under the name it was given or has there.
func TestSubmit_attachment_of_the_mailbox(t *testing.T) {
	withMailbox(t, "mail.example.com", func(t *testing.T, h *house, box *mailbox) {
		r := request("ada", "bob@example.net")
		r.Message.Attachments = []compose.Attachment{{}, {Filename: "mine.pdf"}}
		r.Attached = []smtpsend.Attached{{At: 0, ID: "known"}, {At: 1, ID: "known"}}
		h.submit(r)
		time.Sleep(5 * time.Second)
		body := h.sink.taken()[0].body
		for _, want := range []string{"there.pdf", "mine.pdf", "application/pdf", "b2YgdGhlIG1haWxib3g="} {
			if !strings.Contains(body, want) {
				t.Errorf("%q is missing:\n%s", want, body)
			}
		}
		r.Attached[1].ID = "unknown"
		_, err := h.Queue.Submit(t.Context(), r)
		if e, ok := errors.AsType[*smtpsend.AttachedError](err); !ok || e.At != 1 || !errors.Is(err, smtpsend.ErrNoMessage) {
			t.Error(err)
		}
		box.fail(errors.New("down"))
		if _, err := h.Queue.Submit(t.Context(), r); !errors.Is(err, smtpsend.ErrMailbox) {
			t.Error(err)
		}
	})
}
