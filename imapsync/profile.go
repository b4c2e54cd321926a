package imapsync

import (
	"bytes"
	_ "embed"
	"errors"
	"fmt"
	"io"
	"maps"
	"path"
	"slices"
	"strings"
	"sync"
	"time"

	"go.yaml.in/yaml/v4"

	"github.com/postrider/postrider/store"
)

// Profile is what is known of a provider: where an account starts. What its server is
// seen to do (latches) wins over it.
type Profile struct {
	Name string `yaml:"-"`

	Hosts      []string `yaml:"hosts"`      // of the account's server; * stands for any text
	IDName     []string `yaml:"idName"`     // "name" of the server's ID; * likewise
	Capability string   `yaml:"capability"` // that nobody else has

	IdleRestart       time.Duration `yaml:"idleRestart"` // longest IDLE, and longest time without a command
	NoIdle            bool          `yaml:"noIdle"`
	Keepalive         string        `yaml:"keepalive"`         // without IDLE: "noop" or "status"
	Connections       int           `yaml:"connections"`       // of one account at most, of all kinds
	ConnectsPerSecond float64       `yaml:"connectsPerSecond"` // to a host, by all processes together
	Handshakes        int           `yaml:"handshakes"`        // to a host at once, likewise
	StatusPerSecond   float64       `yaml:"statusPerSecond"`   // of one account

	NoCompress               bool `yaml:"noCompress"`
	NoQResync                bool `yaml:"noQresync"`
	NoNotify                 bool `yaml:"noNotify"`
	ModSeqLag                bool `yaml:"modseqLag"` // HIGHESTMODSEQ moves before the change can be read
	NoModSeqItem             bool `yaml:"noModseqItem"`
	HeadersInsteadOfEnvelope bool `yaml:"headersInsteadOfEnvelope"`
	NeedSelect               bool `yaml:"needSelect"`        // EXAMINE is refused or shows old numbers
	NoStatusMailboxID        bool `yaml:"noStatusMailboxID"` // STATUS names ids that are none

	Roles    store.RoleFolder `yaml:"roles"`    // names of folders, where the server does not say
	SentCopy string           `yaml:"sentCopy"` // who puts sent mail into Sent: "server", "append" (we) or "probe"
	UserForm string           `yaml:"userForm"` // "local": the login is the part before the @; "" = as given
	Note     string           `yaml:"note"`     // a sentence for who cannot log in
}

// allowed is what a server may be used for of what it says of itself.
func (p *Profile) allowed(info Info) Info {
	// CHANGEDSINCE has the server add MODSEQ to its answers (RFC 7162 section 3.1.4.1).
	info.CondStore = info.CondStore && !p.NoModSeqItem
	info.QResync = info.QResync && info.CondStore && !p.NoQResync
	info.Notify = info.Notify && !p.NoNotify
	return info
}

//go:embed profiles.yaml
var embeddedProfiles []byte

// builtin are the profiles that come along. A test says that they can be read.
var builtin = sync.OnceValue(func() *Profiles {
	ps, err := NewProfiles("")
	if err != nil {
		panic(err)
	}
	return ps
})

// Profiles are all that is known of providers. It is immutable.
type Profiles struct {
	all      []Profile // those of the configuration first, each part by name
	fallback Profile
}

// defaultProfile is what every other profile starts from.
const defaultProfile = "default"

// maxProfiles bounds what a configuration may add.
const maxProfiles = 1000

// NewProfiles reads the profiles that come along and those of a configuration, as YAML
// (or JSON): name → fields, which change single fields of a profile of that name, or add
// one. "" adds none. The error joins all problems, each with its name and field.
func NewProfiles(overrides string) (*Profiles, error) {
	known, err := decodeProfiles(embeddedProfiles)
	if err != nil {
		return nil, fmt.Errorf("profiles.yaml: %w", err)
	}
	ours, err := decodeProfiles([]byte(overrides))
	if err != nil {
		return nil, err
	}
	if len(ours) > maxProfiles {
		return nil, fmt.Errorf("at most %d providers", maxProfiles)
	}
	base := Profile{Name: defaultProfile}
	var errs []error
	read := func(p *Profile, name string, sources ...map[string]yaml.Node) {
		p.Name = name
		for _, s := range sources {
			node, ok := s[name]
			if !ok {
				continue
			}
			if err := decodeProfile(&node, p); err != nil {
				errs = append(errs, fmt.Errorf("%s: %w", name, err))
				return
			}
		}
		for _, err := range p.problems() {
			errs = append(errs, fmt.Errorf("%s.%w", name, err))
		}
	}
	read(&base, defaultProfile, known, ours)
	ps := &Profiles{fallback: base}
	for _, part := range []map[string]yaml.Node{ours, known} {
		for _, name := range slices.Sorted(maps.Keys(part)) {
			if name == defaultProfile || slices.ContainsFunc(ps.all, func(p Profile) bool { return p.Name == name }) {
				continue
			}
			p := base
			read(&p, name, known, ours)
			ps.all = append(ps.all, p)
		}
	}
	if len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	return ps, nil
}

func decodeProfiles(b []byte) (map[string]yaml.Node, error) {
	var m map[string]yaml.Node
	if err := yaml.Unmarshal(b, &m); err != nil {
		return nil, fmt.Errorf("must be name: {field: value}: %w", err)
	}
	return m, nil
}

// decodeProfile sets the fields that a node names, and refuses unknown ones.
func decodeProfile(node *yaml.Node, into *Profile) error {
	b, err := yaml.Marshal(node)
	if err != nil {
		return err
	}
	d := yaml.NewDecoder(bytes.NewReader(b))
	d.KnownFields(true)
	if err := d.Decode(into); err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	return nil
}

// problems are the fields that cannot be.
func (p *Profile) problems() (errs []error) {
	bad := func(field, format string, a ...any) {
		errs = append(errs, fmt.Errorf("%s: %s", field, fmt.Sprintf(format, a...)))
	}
	for _, list := range []struct {
		field    string
		patterns []string
	}{{"hosts", p.Hosts}, {"idName", p.IDName}} {
		for _, s := range list.patterns {
			if _, err := path.Match(s, ""); err != nil || strings.Trim(s, "*.") == "" {
				bad(list.field, "%q: must be a name, in which * stands for any text", s)
			}
		}
	}
	if p.Name != defaultProfile && len(p.Hosts) == 0 && len(p.IDName) == 0 && p.Capability == "" {
		bad("hosts", "one of hosts, idName and capability must be given")
	}
	if p.IdleRestart < 10*time.Second || p.IdleRestart > 29*time.Minute { // RFC 2177: within 29 minutes
		bad("idleRestart", "must be 10s to 29m")
	}
	if p.Connections < 1 || p.Connections > 100 {
		bad("connections", "must be 1 to 100")
	}
	if p.Handshakes < 1 || p.Handshakes > 10_000 {
		bad("handshakes", "must be 1 to 10000")
	}
	for field, n := range map[string]float64{"connectsPerSecond": p.ConnectsPerSecond, "statusPerSecond": p.StatusPerSecond} {
		if !(n >= 0.01 && n <= 10_000) { // nor a NaN
			bad(field, "must be 0.01 to 10000")
		}
	}
	oneOf := func(field, value string, words ...string) {
		if !slices.Contains(words, value) {
			bad(field, "%q: must be one of %s", value, strings.Join(words, ", "))
		}
	}
	oneOf("keepalive", p.Keepalive, "noop", "status")
	oneOf("sentCopy", p.SentCopy, "server", "append", "probe")
	oneOf("userForm", p.UserForm, "", "local")
	return errs
}

// hint is what a user whose login is refused has to know of the provider; "" = nothing.
func (p *Profile) hint(user string) string {
	if p.UserForm == "local" && strings.Contains(user, "@") {
		return strings.TrimSpace(p.Note + " The user name is the part of the address before the @.")
	}
	return p.Note
}

// Match chooses the profile of a server: by the host name, else by the name of its ID,
// else by its capabilities; before the login the last two are not known yet. It is pure,
// and what it returns is shared: it MUST NOT be changed.
func (ps *Profiles) Match(host, idName string, capabilities []string) *Profile {
	for _, exact := range []bool{true, false} { // a host that is named before one that is meant
		for i := range ps.all {
			if p := &ps.all[i]; matches(p.Hosts, host, exact) {
				return p
			}
		}
	}
	for i := range ps.all {
		if p := &ps.all[i]; idName != "" && matches(p.IDName, idName, false) {
			return p
		}
	}
	for i := range ps.all {
		if p := &ps.all[i]; p.Capability != "" && slices.ContainsFunc(capabilities, func(c string) bool { return strings.EqualFold(c, p.Capability) }) {
			return p
		}
	}
	return &ps.fallback
}

func matches(patterns []string, name string, exact bool) bool {
	name = strings.ToLower(strings.TrimSuffix(strings.ReplaceAll(name, "/", " "), "."))
	return slices.ContainsFunc(patterns, func(pattern string) bool {
		pattern = strings.ToLower(pattern)
		if exact {
			return pattern == name
		}
		ok, err := path.Match(pattern, name)
		return err == nil && ok
	})
}
