package smtpsend

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"time"

	"github.com/hibiken/asynq"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"

	"github.com/postrider/postrider/internal/carrier"
	"github.com/postrider/postrider/smtpsend/compose"
	"github.com/postrider/postrider/smtpsend/transport"
	"github.com/postrider/postrider/store"
)

// TaskQueue is the asynq queue of all tasks of this package.
const TaskQueue = "send"

// Config is the configuration `send.*`. Zero values are the defaults in brackets.
type Config struct {
	Concurrency    int                // transactions at once in this process (200); of one account a tenth, and see share
	MaxRecipients  int                // of one submission (500)
	MaxMessageSize int64              // bytes, as it is sent (36 MiB)
	MaxAge         time.Duration      // after which a submission is given up (5 days)
	IDHeader       string             // header that carries the queueId; "" = none
	Outbox         store.OutboxLimits // what may wait

	KeepSent, KeepFailed, KeepUnknown time.Duration // how long rows are kept (24 h, 7 days, 30 days)

	TaskCheck    time.Duration // asynq's look for tasks (50 ms)
	DelayedCheck time.Duration // asynq's look for due tasks (500 ms)
	Sweep        time.Duration // the sweeper's round (10 s)
}

func (c Config) withDefaults() Config {
	c.Concurrency = cmp.Or(c.Concurrency, 200)
	c.MaxRecipients = cmp.Or(c.MaxRecipients, 500)
	c.MaxMessageSize = cmp.Or(c.MaxMessageSize, 36<<20)
	c.MaxAge = cmp.Or(c.MaxAge, 5*24*time.Hour)
	c.KeepSent = cmp.Or(c.KeepSent, 24*time.Hour)
	c.KeepFailed = cmp.Or(c.KeepFailed, 7*24*time.Hour)
	c.KeepUnknown = cmp.Or(c.KeepUnknown, 30*24*time.Hour)
	c.TaskCheck = cmp.Or(c.TaskCheck, 50*time.Millisecond)
	c.DelayedCheck = cmp.Or(c.DelayedCheck, 500*time.Millisecond)
	c.Sweep = cmp.Or(c.Sweep, 10*time.Second)
	return c
}

// Transport hands a message over. *transport.Pool is one.
type Transport interface {
	// Send MUST call beforeDot before the final dot, with the recipients the server accepted,
	// and not send the dot when it fails. Its error MUST be a *transport.Error. It MAY block
	// for an hour, and ends with ctx.
	Send(ctx context.Context, s transport.Server, e transport.Envelope, body func(io.Writer) error, beforeDot func(ctx context.Context, accepted []string) error) (transport.Receipt, error)
}

// Reader reads messages that are answered or forwarded, and attachments.
type Reader interface {
	// Original reads a message by our id of it. Errors: ErrNoMessage; any other means that
	// the mailbox could not be read now. It MAY block for 20 s. Attachments of what it
	// answers are read under ctx too, later.
	Original(ctx context.Context, account store.AccountID, message string) (compose.Original, error)
	// Attachment finds an attachment by our id of it, likewise.
	Attachment(ctx context.Context, account store.AccountID, id string) (compose.Attachment, error)
}

// Mailbox changes the mailbox of an account for us. A folder is named by its path or its
// special use ("\Sent"). Methods MAY block for as long as the server takes, or ctx.
type Mailbox interface {
	// Find counts the messages of a folder that have this Message-ID. Errors: ErrNoFolder.
	Find(ctx context.Context, account store.AccountID, folder, messageID string) (int, error)
	// Append adds a message to a folder. After an error that is not the server's refusal
	// nobody knows whether it was added. Errors: ErrNoFolder.
	Append(ctx context.Context, account store.AccountID, folder string, c SentCopy) error
	// AddFlags adds flags to a message by our id of it; those that it has, or that the
	// folder does not keep, are left out. Errors: ErrNoMessage.
	AddFlags(ctx context.Context, account store.AccountID, message string, flags ...string) error
}

// SentCopy is the copy of a message that was sent.
type SentCopy struct {
	Raw       io.Reader
	Size      int64 // bytes
	MessageID string
	Date      time.Time
}

// What a Reader or a Mailbox answers that somebody branches on.
var (
	ErrNoMessage = errors.New("no such message")
	ErrNoFolder  = errors.New("no such folder")
)

// Options are what a Sender is made of.
type Options struct {
	Store      *store.Store          // required
	Redis      redis.UniversalClient // required; asynq's; the caller closes it
	Transport  Transport             // required, but for a process that only queues
	Reader     Reader                // nil: nothing can be answered or forwarded
	Mailbox    Mailbox               // nil: nothing is copied, flagged or looked for
	Profiles   *Profiles             // nil: those that come along
	Instance   string                // name that a restarted process keeps; "" makes one
	Logger     *slog.Logger          // nil discards
	Registerer prometheus.Registerer // nil keeps metrics to itself
	Config     Config
}

// Sender is the engine. Its parts are run and stopped one by one by cmd, in the order of
// its shutdown list.
type Sender struct {
	Queue   *Queue
	Server  *Server
	Sweeper *Sweeper
}

// core is what the parts share. It is immutable but for what says otherwise.
type core struct {
	store     *store.Store
	asynq     *asynq.Client
	transport Transport
	reader    Reader
	mailbox   Mailbox
	profiles  *Profiles
	alarms    *carrier.Alarms
	hosts     *hosts
	m         *metrics
	log       *slog.Logger
	cfg       Config
	instance  string // holds leases
	owner     string // claims submissions: another name after each start
}

// New makes a Sender. It does no I/O.
func New(o Options) (*Sender, error) {
	if o.Store == nil || o.Redis == nil {
		return nil, errors.New("smtpsend: Store and Redis are required")
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Profiles == nil {
		o.Profiles = builtin()
	}
	if o.Instance == "" {
		host, _ := os.Hostname() // only for people
		o.Instance = fmt.Sprintf("%s:%d:%s", host, os.Getpid(), rand.Text()[:8])
	}
	if o.Reader == nil {
		o.Reader = noReader{}
	}
	m, err := newMetrics(o.Registerer)
	if err != nil {
		return nil, fmt.Errorf("smtpsend: %w", err)
	}
	c := &core{
		store: o.Store, asynq: asynq.NewClientFromRedisClient(o.Redis), transport: o.Transport, reader: o.Reader, mailbox: o.Mailbox,
		profiles: o.Profiles, alarms: carrier.NewAlarms(), hosts: newHosts(), m: m, log: o.Logger, cfg: o.Config.withDefaults(),
		instance: o.Instance, owner: o.Instance + "/" + rand.Text()[:8],
	}
	return &Sender{Queue: &Queue{core: c}, Server: newServer(c, o.Redis), Sweeper: &Sweeper{core: c}}, nil
}

// Run runs all parts until ctx ends, and then stops them in order. It returns when all
// have ended.
func (s *Sender) Run(ctx context.Context) error {
	if err := s.Server.Start(); err != nil {
		return err
	}
	defer s.Server.Shutdown()
	return s.Sweeper.Run(ctx)
}

// moment is now, by Redis' clock.
func (c *core) moment(now time.Time, fails int) moment {
	return moment{now: now.UTC(), chance: chance(), maxAge: c.cfg.MaxAge, fails: fails, flags: c.mailbox != nil}
}
