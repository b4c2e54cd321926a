package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net/netip"
	"os"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/postrider/postrider/store"
	"github.com/postrider/postrider/store/secret"
)

// runToken works on the store itself, so it works with the server running or not.
func runToken(ctx context.Context, p *program, fs *flag.FlagSet) error {
	if len(p.args) == 0 || strings.HasPrefix(p.args[0], "-") {
		if err := parse(fs, p.args, 0); err != nil {
			return err
		}
		return usagef("say what to do: create, list or revoke")
	}
	action := p.args[0]
	p.args = p.args[1:]
	config := fs.String("config", "", "configuration `file`")
	data := fs.String("data", "", "data `directory`")
	rest := 0
	var do func(context.Context, *store.Store) error
	switch action {
	case "create":
		do = tokenCreate(p, fs)
	case "list":
		asJSON := fs.Bool("json", false, "one JSON object a line")
		do = func(ctx context.Context, s *store.Store) error { return tokenList(ctx, s, p.stdout, *asJSON) }
	case "revoke":
		rest = 1
		do = func(ctx context.Context, s *store.Store) error {
			err := s.DeleteToken(ctx, fs.Arg(0))
			if errors.Is(err, store.ErrNotFound) {
				return fmt.Errorf("there is no token %q: postrider token list shows them", fs.Arg(0))
			}
			return err
		}
	default:
		return usagef("%q: must be create, list or revoke", action)
	}
	if err := parse(fs, p.args, rest); err != nil {
		return err
	}
	if action == "revoke" && fs.NArg() != 1 {
		return usagef("name the token's id: postrider token revoke tok_…")
	}
	l, err := loadConfig(*config, p, dataFlag(*data))
	if err != nil {
		return err
	}
	return withStore(ctx, l, p, do)
}

func dataFlag(dir string) map[string]string {
	if dir == "" {
		return nil
	}
	return map[string]string{"dataDir": dir}
}

func tokenCreate(p *program, fs *flag.FlagSet) func(context.Context, *store.Store) error {
	scopes := fs.String("scopes", "*", "comma-separated `scopes`: accounts, read, events, settings, tokens, monitor, metrics, … or * for all")
	description := fs.String("description", "", "what the token is for")
	account := fs.String("account", "", "bind it to one account `id`")
	from := fs.String("from", "", "comma-separated CIDRs that it may come from")
	expires := fs.Duration("expires", 0, "how long it lives; 0 = until it is revoked")
	return func(ctx context.Context, s *store.Store) error {
		t := store.Token{Description: *description, Account: store.AccountID(*account), Scopes: words(*scopes)}
		for _, sc := range t.Scopes {
			if sc != "*" && !slices.Contains(scopeNames(), sc) {
				return usagef("scope %q: must be * or one of %s", sc, strings.Join(scopeNames(), ", "))
			}
			if *account != "" && slices.Contains([]string{"*", "settings", "tokens", "metrics", "monitor"}, sc) {
				return usagef("scope %q cannot be bound to one account: give the others with --scopes", sc)
			}
		}
		if len(t.Scopes) == 0 {
			return usagef("a token needs a scope")
		}
		for _, a := range words(*from) {
			pre, err := parsePrefix(a)
			if err != nil {
				return usagef("--from %q: must be an address or a CIDR prefix", a)
			}
			t.Addresses = append(t.Addresses, netip.Prefix.String(pre))
		}
		if *expires != 0 {
			now, err := s.Now(ctx)
			if err != nil {
				return err
			}
			t.Expires = now.Add(*expires)
		}
		value, t, err := s.CreateToken(ctx, t)
		if err != nil {
			return err
		}
		fmt.Fprintf(p.stderr, "token %s; its value is shown this once:\n", t.ID)
		_, err = fmt.Fprintln(p.stdout, value)
		return err
	}
}

// scopeNames are those of api.md section 2.
func scopeNames() []string {
	return []string{"accounts", "read", "write", "send", "events", "webhooks", "settings", "tokens", "monitor", "metrics", "api"}
}

func words(s string) []string {
	var out []string
	for w := range strings.SplitSeq(s, ",") {
		if w = strings.TrimSpace(w); w != "" {
			out = append(out, w)
		}
	}
	return out
}

func tokenList(ctx context.Context, s *store.Store, out io.Writer, asJSON bool) error {
	list, err := s.Tokens(ctx)
	if err != nil {
		return err
	}
	if asJSON {
		enc := json.NewEncoder(out)
		for _, t := range list {
			if err := enc.Encode(t); err != nil {
				return err
			}
		}
		return nil
	}
	w := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
	fmt.Fprintln(w, "ID\tSCOPES\tACCOUNT\tCREATED\tEXPIRES\tLAST USE\tDESCRIPTION")
	day := func(t time.Time) string {
		if t.IsZero() {
			return "-"
		}
		return t.UTC().Format("2006-01-02 15:04")
	}
	for _, t := range list {
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\n", t.ID, strings.Join(t.Scopes, ","), dash(string(t.Account)),
			day(t.Created), day(t.Expires), day(t.LastUse), t.Description)
	}
	return w.Flush()
}

func dash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

// withStore opens the store that serve uses: the Redis that runs, or, where that is our
// own and no serve runs, one started for the moment.
func withStore(ctx context.Context, l *loaded, p *program, do func(context.Context, *store.Store) error) (err error) {
	path, err := dataDir(l.DataDir, p.getenv)
	if err != nil {
		return usageError{err}
	}
	log := slog.New(slog.DiscardHandler)
	d := &dataDirectory{path: path}
	var part *redisPart
	if l.Redis.URL.Empty() {
		if _, serr := os.Stat(path); errors.Is(serr, fs.ErrNotExist) {
			return fmt.Errorf("there is no data directory %s: name it with --data, or start postrider serve first", path)
		}
		locked, lerr := openDataDir(path)
		_, inUse := errors.AsType[unsafeError](lerr)
		switch {
		case inUse: // serve runs: its Redis answers
			socket, err := socketPath(path, p.getenv("XDG_RUNTIME_DIR"))
			if err != nil {
				return err
			}
			client := redis.NewClient(&redis.Options{Network: "unix", Addr: socket})
			part = &redisPart{client: client, stop: func(context.Context) error { return client.Close() }}
			if err := answers(ctx, client); err != nil {
				return errors.Join(fmt.Errorf("redis of the running postrider: %w", err), client.Close())
			}
		case lerr != nil:
			return lerr
		default:
			defer discardClose(locked.lock)
		}
	}
	if part == nil {
		if part, err = openRedis(ctx, &l.Config, d, false, p, log); err != nil {
			return err
		}
	}
	defer func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*childStop)
		defer cancel()
		err = errors.Join(err, part.stop(ctx))
	}()
	ring, err := secret.NewKeyring(make([]byte, secret.KeySize)) // tokens are hashed, not sealed: the real key stays where it is
	if err != nil {
		return err
	}
	return do(ctx, store.New(store.Options{Client: part.client, Prefix: l.Redis.Prefix, Secrets: ring, Logger: log}))
}
