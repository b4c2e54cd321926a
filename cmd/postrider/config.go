package main

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/postrider/postrider/imapsync"
	"github.com/postrider/postrider/internal/egress"
	"github.com/postrider/postrider/smtpsend"
	"github.com/postrider/postrider/store/secret"
)

// Config is all that is configured before the start; what may change while the
// program runs are the settings. A key's name is its yaml tags joined by dots.
type Config struct {
	DataDir string   `yaml:"dataDir"` // "" = dataDir's rule
	Roles   []string `yaml:"roles"`

	Log struct {
		Level  string `yaml:"level"`
		Format string `yaml:"format"` // auto = text on a terminal, else json
		Trace  bool   `yaml:"trace"`
	} `yaml:"log"`

	Redis struct {
		URL         secret.Text `yaml:"url"` // "" = our own redis-server
		Prefix      string      `yaml:"prefix"`
		AllowUnsafe bool        `yaml:"allowUnsafe"`
		Server      string      `yaml:"server"` // program of our own server; "" = redis-server or valkey-server from PATH
	} `yaml:"redis"`

	API struct {
		Listen string `yaml:"listen"`
		TLS    struct {
			Cert string `yaml:"cert"`
			Key  string `yaml:"key"`
		} `yaml:"tls"`
		TrustedProxies []string `yaml:"trustedProxies"`
		CORS           struct {
			Origins []string `yaml:"origins"`
		} `yaml:"cors"`
		MaxConcurrent   int         `yaml:"maxConcurrent"`
		MaxBodyMemory   size        `yaml:"maxBodyMemory"`
		Docs            string      `yaml:"docs"`
		MetricsListen   string      `yaml:"metricsListen"`
		AllowQueryToken bool        `yaml:"allowQueryToken"`
		FirstToken      string      `yaml:"firstToken"`
		Token           secret.Text `yaml:"token"`
	} `yaml:"api"`

	Secrets struct {
		KeyFile string        `yaml:"keyFile"` // "" = <data>/secrets.key
		Keys    []secret.Text `yaml:"keys"`
	} `yaml:"secrets"`

	Mail struct {
		Egress           string `yaml:"egress"`
		AllowPlaintext   bool   `yaml:"allowPlaintext"`
		AllowInsecureTLS bool   `yaml:"allowInsecureTLS"`
		Providers        nested `yaml:"providers"` // imapsync.NewProfiles
	} `yaml:"mail"`

	Sync struct {
		ProbeInterval time.Duration `yaml:"probeInterval"`
		ListInterval  time.Duration `yaml:"listInterval"`
		AskInterval   time.Duration `yaml:"askInterval"`
		ProofInterval time.Duration `yaml:"proofInterval"`
		Baselines     int           `yaml:"baselines"`
		Compress      string        `yaml:"compress"`
		ContentMemory size          `yaml:"contentMemory"`
	} `yaml:"sync"`

	Send struct {
		Concurrency      int           `yaml:"concurrency"`
		MaxRecipients    int           `yaml:"maxRecipients"`
		MaxMessageSize   size          `yaml:"maxMessageSize"`
		MaxQueuedBytes   size          `yaml:"maxQueuedBytes"`
		MaxAccountBytes  size          `yaml:"maxAccountBytes"`
		MaxAccountQueued int           `yaml:"maxAccountQueued"`
		MaxAge           time.Duration `yaml:"maxAge"`
		EHLOName         string        `yaml:"ehloName"`
		IDHeader         string        `yaml:"idHeader"`
		Providers        nestedList    `yaml:"providers"` // smtpsend.NewProfiles
		Keep             struct {
			Sent    time.Duration `yaml:"sent"`
			Failed  time.Duration `yaml:"failed"`
			Unknown time.Duration `yaml:"unknown"`
		} `yaml:"keep"`
		Timeouts struct {
			Connect     time.Duration `yaml:"connect"`
			TLS         time.Duration `yaml:"tls"`
			Greeting    time.Duration `yaml:"greeting"`
			Command     time.Duration `yaml:"command"`
			Mail        time.Duration `yaml:"mail"`
			Rcpt        time.Duration `yaml:"rcpt"`
			Data        time.Duration `yaml:"data"`
			Block       time.Duration `yaml:"block"`
			Dot         time.Duration `yaml:"dot"`
			Transaction time.Duration `yaml:"transaction"`
		} `yaml:"timeouts"`
	} `yaml:"send"`

	Webhook struct {
		Concurrency   int           `yaml:"concurrency"`
		SlowShare     float64       `yaml:"slowShare"`
		PerHost       int           `yaml:"perHost"`
		Timeout       time.Duration `yaml:"timeout"`
		MaxPending    int           `yaml:"maxPending"`
		MaxLate       int           `yaml:"maxLate"`
		KeepDead      time.Duration `yaml:"keepDead"`
		KeepCompleted time.Duration `yaml:"keepCompleted"`
		TaskPayload   string        `yaml:"taskPayload"`
		LogFailures   time.Duration `yaml:"logFailures"`
		LogPerRoute   int           `yaml:"logPerRoute"`
	} `yaml:"webhook"`

	Egress struct {
		Policy    string   `yaml:"policy"`
		Allow     []string `yaml:"allow"`
		AllowHTTP bool     `yaml:"allowHttp"`
	} `yaml:"egress"`

	Events struct {
		Retention time.Duration `yaml:"retention"`
	} `yaml:"events"`
}

// defaultConfig is what holds where nothing is configured.
func defaultConfig() Config {
	var c Config
	c.Roles = allRoles()
	c.Log.Level = "info"
	c.Log.Format = "auto"
	c.API.Listen = "127.0.0.1:3000"
	c.API.MaxConcurrent = 200
	c.API.MaxBodyMemory = 256 << 20
	c.API.Docs = "public"
	c.API.FirstToken = "print"
	c.Mail.Egress = egress.Any
	c.Mail.Providers = "{}"
	c.Sync.ProbeInterval = 2 * time.Minute
	c.Sync.ListInterval = 10 * time.Minute
	c.Sync.AskInterval = time.Second
	c.Sync.ProofInterval = 290 * time.Second
	c.Sync.Baselines = 8
	c.Sync.Compress = "auto"
	c.Sync.ContentMemory = 256 << 20
	c.Send.Concurrency = 200
	c.Send.MaxRecipients = 500
	c.Send.MaxMessageSize = 36 << 20
	c.Send.MaxQueuedBytes = 1 << 30
	c.Send.MaxAccountBytes = 256 << 20
	c.Send.MaxAccountQueued = 100_000
	c.Send.MaxAge = 5 * 24 * time.Hour
	c.Send.IDHeader = "X-Postrider-Id"
	c.Send.Providers = "[]"
	c.Send.Keep.Sent = 24 * time.Hour
	c.Send.Keep.Failed = 7 * 24 * time.Hour
	c.Send.Keep.Unknown = 30 * 24 * time.Hour
	c.Send.Timeouts.Connect = 30 * time.Second
	c.Send.Timeouts.TLS = 30 * time.Second
	c.Send.Timeouts.Greeting = 5 * time.Minute
	c.Send.Timeouts.Command = time.Minute
	c.Send.Timeouts.Mail = 5 * time.Minute
	c.Send.Timeouts.Rcpt = 5 * time.Minute
	c.Send.Timeouts.Data = 2 * time.Minute
	c.Send.Timeouts.Block = 3 * time.Minute
	c.Send.Timeouts.Dot = 10 * time.Minute
	c.Send.Timeouts.Transaction = time.Hour
	c.Webhook.Concurrency = 256
	c.Webhook.SlowShare = 0.5
	c.Webhook.PerHost = 32
	c.Webhook.Timeout = 15 * time.Second
	c.Webhook.MaxPending = 1_000_000
	c.Webhook.MaxLate = 10_000
	c.Webhook.KeepDead = 168 * time.Hour
	c.Webhook.TaskPayload = "meta"
	c.Webhook.LogFailures = time.Minute
	c.Webhook.LogPerRoute = 1000
	c.Egress.Policy = egress.Public
	c.Events.Retention = 72 * time.Hour
	return c
}

// Roles of a process.
const (
	roleAPI      = "api"
	roleSync     = "sync"
	roleSend     = "send"
	roleDispatch = "dispatch"
)

func allRoles() []string { return []string{roleAPI, roleSync, roleSend, roleDispatch} }

func (c *Config) has(role string) bool { return slices.Contains(c.Roles, role) }

// problem is what is wrong with one key.
type problem struct {
	key string
	err error
}

// problems looks at everything that can be judged without doing anything.
func (c *Config) problems() []problem {
	var list []problem
	bad := func(key, format string, a ...any) { list = append(list, problem{key, fmt.Errorf(format, a...)}) }
	oneOf := func(key, value string, words ...string) {
		if !slices.Contains(words, value) {
			bad(key, "%q: must be %s", value, strings.Join(words[:len(words)-1], ", ")+" or "+words[len(words)-1])
		}
	}

	if len(c.Roles) == 0 {
		bad("roles", "at least one of %s", strings.Join(allRoles(), ", "))
	}
	for _, r := range c.Roles {
		oneOf("roles", r, allRoles()...)
	}
	oneOf("log.level", c.Log.Level, "debug", "info", "warn", "error")
	oneOf("log.format", c.Log.Format, "auto", "text", "json")
	oneOf("api.docs", c.API.Docs, "public", "token")
	oneOf("api.firstToken", c.API.FirstToken, "print", "none")
	oneOf("sync.compress", c.Sync.Compress, "auto", "never")
	oneOf("mail.egress", c.Mail.Egress, egress.Any, egress.Private, egress.Public)

	each := func(key string, err error) { // joined: one problem a line
		if err == nil {
			return
		}
		for line := range strings.Lines(err.Error()) {
			bad(key, "%s", strings.TrimSpace(line))
		}
	}
	_, err := imapsync.NewProfiles(string(c.Mail.Providers))
	each("mail.providers", err)
	_, err = smtpsend.NewProfiles(string(c.Send.Providers))
	each("send.providers", err)

	if !c.Redis.URL.Empty() {
		if _, err := redisOptions(c.Redis.URL.Reveal()); err != nil {
			bad("redis.url", "%w", err)
		}
	}
	if strings.ContainsAny(c.Redis.Prefix, "{}*?[] \t\r\n") {
		bad("redis.prefix", "must not hold braces, brackets, blanks, * or ?")
	}

	for key, addr := range map[string]string{"api.listen": c.API.Listen, "api.metricsListen": c.API.MetricsListen} {
		if addr == "" && key == "api.metricsListen" {
			continue
		}
		_, port, err := net.SplitHostPort(addr)
		if _, perr := net.LookupPort("tcp", port); err != nil || perr != nil {
			bad(key, "%q: must be host:port, such as 127.0.0.1:3000", addr)
		}
	}
	if (c.API.TLS.Cert == "") != (c.API.TLS.Key == "") {
		bad("api.tls", "cert and key belong together: one of them is missing")
	}
	for _, s := range c.API.TrustedProxies {
		if _, err := parsePrefix(s); err != nil {
			bad("api.trustedProxies", "%q: must be an address or a CIDR prefix", s)
		}
	}
	for _, s := range c.API.CORS.Origins {
		if u, err := url.Parse(s); err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" || u.User != nil || u.Path != "" || u.RawQuery != "" {
			bad("api.cors.origins", "%q: must be an origin, such as https://app.example.com", s)
		}
	}
	for i, k := range c.Secrets.Keys {
		if _, err := secret.ParseKey(k.Reveal()); err != nil {
			bad("secrets.keys", "key %d: %w", i+1, err)
		}
	}
	if len(c.Secrets.Keys) > 0 && c.Secrets.KeyFile != "" {
		bad("secrets.keys", "secrets.keyFile is given too: use one of them")
	}
	oneOf("webhook.taskPayload", c.Webhook.TaskPayload, "meta", "ids")
	between := func(key string, v, low, high time.Duration) {
		if v < low || v > high {
			bad(key, "must be %s to %s", low, high)
		}
	}
	between("sync.probeInterval", c.Sync.ProbeInterval, time.Second, 24*time.Hour)
	between("sync.listInterval", c.Sync.ListInterval, time.Second, 24*time.Hour)
	between("sync.askInterval", c.Sync.AskInterval, time.Millisecond, time.Hour)
	between("sync.proofInterval", c.Sync.ProofInterval, time.Second, 29*time.Minute) // RFC 2177: IDLE is restarted within 29 minutes
	between("send.maxAge", c.Send.MaxAge, time.Minute, 30*24*time.Hour)
	between("send.keep.sent", c.Send.Keep.Sent, time.Hour, 365*24*time.Hour)
	between("send.keep.failed", c.Send.Keep.Failed, time.Hour, 365*24*time.Hour)
	between("send.keep.unknown", c.Send.Keep.Unknown, 24*time.Hour, 365*24*time.Hour)
	for _, t := range []struct {
		key string
		v   time.Duration
	}{
		{"connect", c.Send.Timeouts.Connect},
		{"tls", c.Send.Timeouts.TLS},
		{"greeting", c.Send.Timeouts.Greeting},
		{"command", c.Send.Timeouts.Command},
		{"mail", c.Send.Timeouts.Mail},
		{"rcpt", c.Send.Timeouts.Rcpt},
		{"data", c.Send.Timeouts.Data},
		{"block", c.Send.Timeouts.Block},
		{"dot", c.Send.Timeouts.Dot},
	} {
		between("send.timeouts."+t.key, t.v, time.Second, time.Hour)
	}
	// asynq gives a task 65 minutes.
	between("send.timeouts.transaction", c.Send.Timeouts.Transaction, time.Minute, time.Hour)
	between("webhook.timeout", c.Webhook.Timeout, time.Second, time.Minute)
	between("webhook.keepDead", c.Webhook.KeepDead, time.Hour, 365*24*time.Hour)
	between("webhook.keepCompleted", c.Webhook.KeepCompleted, 0, 24*time.Hour)
	between("webhook.logFailures", c.Webhook.LogFailures, time.Second, 24*time.Hour)
	between("events.retention", c.Events.Retention, time.Hour, 365*24*time.Hour)
	for _, n := range []struct {
		key  string
		v    int
		low  int
		high int
	}{
		{"api.maxConcurrent", c.API.MaxConcurrent, 1, 100_000},
		{"sync.baselines", c.Sync.Baselines, 1, 1000},
		{"send.concurrency", c.Send.Concurrency, 1, 10_000},
		{"send.maxRecipients", c.Send.MaxRecipients, 1, 10_000},
		{"send.maxAccountQueued", c.Send.MaxAccountQueued, 1, 10_000_000},
		{"webhook.concurrency", c.Webhook.Concurrency, 1, 10_000},
		{"webhook.perHost", c.Webhook.PerHost, 1, 10_000},
		{"webhook.maxPending", c.Webhook.MaxPending, 100, 100_000_000},
		{"webhook.maxLate", c.Webhook.MaxLate, 1, 1_000_000},
		{"webhook.logPerRoute", c.Webhook.LogPerRoute, 50, 100_000},
	} {
		if n.v < n.low || n.v > n.high {
			bad(n.key, "must be %d to %d", n.low, n.high)
		}
	}
	if n := c.API.MaxBodyMemory; n < 100<<20 || n > 1<<40 {
		bad("api.maxBodyMemory", "must be 100MiB to 1TiB")
	}
	if n := c.Sync.ContentMemory; n < 16<<20 || n > 1<<40 {
		bad("sync.contentMemory", "must be 16MiB to 1TiB")
	}
	for _, n := range []struct {
		key  string
		v    size
		high size
	}{
		{"send.maxMessageSize", c.Send.MaxMessageSize, 256 << 20},
		{"send.maxQueuedBytes", c.Send.MaxQueuedBytes, 1 << 50},
		{"send.maxAccountBytes", c.Send.MaxAccountBytes, 1 << 50},
	} {
		if n.v < 64<<10 || n.v > n.high {
			bad(n.key, "must be 64KiB to %s", n.high)
		}
	}
	if !isFieldName(c.Send.IDHeader) {
		bad("send.idHeader", "%q: must be a header's name, such as X-Postrider-Id, or empty", c.Send.IDHeader)
	}
	if strings.ContainsFunc(c.Send.EHLOName, func(r rune) bool { return r <= ' ' || r > '~' }) || strings.EqualFold(c.Send.EHLOName, "localhost") {
		bad("send.ehloName", "%q: must be this host's name or an address literal such as [192.0.2.1]", c.Send.EHLOName)
	}
	if c.Webhook.SlowShare <= 0 || c.Webhook.SlowShare > 1 {
		bad("webhook.slowShare", "must be above 0 and at most 1")
	}
	_, err = egress.New(egress.Policy{Name: c.Egress.Policy, Allow: c.Egress.Allow})
	each("egress", err)
	return list
}

// unsafeProblems are the configurations that are refused although they are well formed.
func (c *Config) unsafeProblems(ephemeral bool) []error {
	var errs []error
	for _, f := range c.fields() {
		if strings.Contains(f.reveal(), "CHANGE-ME") {
			errs = append(errs, unsafeError{what: f.key + " still holds the example's CHANGE-ME", mend: "put your own value there"})
		}
	}
	if v := c.API.Token.Reveal(); v != "" && len(v) < 32 {
		errs = append(errs, unsafeError{what: "api.token has fewer than 32 characters", mend: "use a longer one: openssl rand -base64 32"})
	}
	if ephemeral && c.has(roleAPI) {
		for key, addr := range map[string]string{"api.listen": c.API.Listen, "api.metricsListen": c.API.MetricsListen} {
			if addr != "" && !onLoopback(addr) {
				errs = append(errs, unsafeError{
					what: key + " is off loopback, and --ephemeral keeps nothing",
					mend: "listen on 127.0.0.1, or leave out --ephemeral",
				})
			}
		}
	}
	return errs
}

// onLoopback says whether only this host can connect to a listener.
func onLoopback(listen string) bool {
	host, _, err := net.SplitHostPort(listen)
	if err != nil {
		return false
	}
	a, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && a.IsLoopback()
}

func parsePrefix(s string) (netip.Prefix, error) {
	if a, err := netip.ParseAddr(s); err == nil {
		return a.Prefix(a.BitLen())
	}
	p, err := netip.ParsePrefix(s)
	return p.Masked(), err
}

// dataDir is where everything is kept: as configured, or /var/lib/postrider where we
// may write, or the user's own data directory.
func dataDir(configured string, getenv func(string) string) (string, error) {
	if configured != "" {
		return filepath.Abs(configured)
	}
	const system = "/var/lib/postrider"
	if mayWrite(system) {
		return system, nil
	}
	if d := getenv("XDG_DATA_HOME"); filepath.IsAbs(d) {
		return filepath.Join(d, "postrider"), nil
	}
	if home := getenv("HOME"); home != "" {
		return filepath.Join(home, ".local", "share", "postrider"), nil
	}
	return "", errors.New("no data directory: set dataDir, POSTRIDER_DATA_DIR or --data")
}

// mayWrite says whether dir is, or can be made, ours to write in. It leaves no trace.
func mayWrite(dir string) bool {
	fi, err := os.Stat(dir)
	if errors.Is(err, os.ErrNotExist) {
		parent, perr := os.Stat(filepath.Dir(dir))
		return perr == nil && parent.IsDir() && accessible(filepath.Dir(dir))
	}
	return err == nil && fi.IsDir() && accessible(dir)
}

// isFieldName says whether a header may be called so, in at most 76 characters; none is one
// too (RFC 5322 section 3.6.8).
func isFieldName(s string) bool {
	return len(s) <= 76 && !strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r > '~' || r == ':' })
}
