package smtpsend

import (
	_ "embed"
	"errors"
	"fmt"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"

	"go.yaml.in/yaml/v4"
)

// Who keeps the copy of sent mail.
const (
	CopyServer = "server" // the server does, by itself
	CopyAppend = "append" // we do
	CopyProbe  = "probe"  // it is looked for, and added where it is not
)

// Limits bound what an account sends; 0 = no bound.
type Limits struct {
	PerMinute        int `yaml:"perMinute"`
	PerHour          int `yaml:"perHour"`
	PerDay           int `yaml:"perDay"`
	RecipientsPerDay int `yaml:"recipientsPerDay"`
}

// Profile is what is known of a provider that takes mail.
type Profile struct {
	Name         string       `yaml:"name"`
	Hosts        []string     `yaml:"hosts"`       // of the submission server; * stands for any text
	Domains      []string     `yaml:"domains"`     // of the account's address; none = any
	Connections  int          `yaml:"connections"` // transactions of one account at once
	Recipients   int          `yaml:"recipients"`  // of one transaction
	Size         int64        `yaml:"size"`        // bytes of a message; 0 = what the server says
	Limits       Limits       `yaml:"limits"`
	SentCopy     string       `yaml:"sentCopy"`  // one of the Copy words
	MessageID    string       `yaml:"messageId"` // how the server names another one in its reply to the dot: "", "brackets" or "ses"
	LimitReplies []LimitReply `yaml:"limitReplies"`

	host string // that it was chosen by
}

// LimitReply is a reply that means "enough for now". All that it names must fit.
type LimitReply struct {
	Code        int      `yaml:"code"`     // 0 = any
	Enhanced    string   `yaml:"enhanced"` // x.y.z, a part may be *, the last a range a-b; "" = any
	Texts       []string `yaml:"texts"`    // one of them is part of the text, lower case; none = any
	Connections bool     `yaml:"connections"`
}

//go:embed profiles.yaml
var embeddedProfiles string

// builtin are the profiles that come along. A test says that they can be read.
var builtin = sync.OnceValue(func() *Profiles {
	ps, err := NewProfiles("")
	if err != nil {
		panic(err)
	}
	return ps
})

// Profiles are all that is known of providers. It is immutable.
type Profiles struct{ all []Profile }

// maxProfiles bounds what a configuration may add.
const maxProfiles = 1000

// NewProfiles reads the profiles of a configuration, as YAML (or JSON) like that of
// profiles.yaml, and puts them before those that come along; "" adds none. The error
// joins all problems, each with the index of its profile and its field: [0].hosts.
func NewProfiles(own string) (*Profiles, error) {
	known, err := decodeProfiles(embeddedProfiles)
	if err != nil {
		return nil, fmt.Errorf("profiles.yaml: %w", err)
	}
	ours, err := decodeProfiles(own)
	if err != nil {
		return nil, err
	}
	ps := &Profiles{all: append(ours, known...)}
	last := known[len(known)-1]
	var errs []error
	for i := range ps.all {
		p := &ps.all[i]
		if p.Connections == 0 {
			p.Connections = last.Connections
		}
		if p.Recipients == 0 {
			p.Recipients = last.Recipients
		}
		if p.SentCopy == "" {
			p.SentCopy = last.SentCopy
		}
		for _, err := range p.problems() {
			errs = append(errs, fmt.Errorf("[%d].%w", i, err))
		}
		if i < len(ps.all)-1 {
			p.LimitReplies = slices.Concat(p.LimitReplies, last.LimitReplies)
		}
	}
	return ps, errors.Join(errs...)
}

// decodeProfiles reads a list field by field, so that each problem has its place.
func decodeProfiles(s string) (ps []Profile, _ error) {
	var list []yaml.Node
	if err := yaml.Unmarshal([]byte(s), &list); err != nil {
		return nil, fmt.Errorf("must be a list of profiles: %w", err)
	}
	if len(list) > maxProfiles {
		return nil, fmt.Errorf("at most %d profiles", maxProfiles)
	}
	var errs []error
	for i, n := range list {
		if n.Kind != yaml.MappingNode {
			errs = append(errs, fmt.Errorf("[%d]: must hold the fields of a profile", i))
		}
		var p Profile
		for ; len(n.Content) > 1; n.Content = n.Content[2:] {
			field := yaml.Node{Kind: yaml.MappingNode, Content: n.Content[:2]}
			err := field.Load(&p, yaml.WithKnownFields())
			if several, ok := errors.AsType[*yaml.LoadErrors](err); ok {
				err = errors.New(several.Errors[0].Message) // without the line, which is not the file's
			}
			if err != nil {
				errs = append(errs, fmt.Errorf("[%d].%s: %w", i, n.Content[0].Value, err))
			}
		}
		ps = append(ps, p)
	}
	return ps, errors.Join(errs...)
}

// problems are the fields that cannot be.
func (p *Profile) problems() (errs []error) {
	bad := func(field, format string, a ...any) {
		errs = append(errs, fmt.Errorf("%s: %s", field, fmt.Sprintf(format, a...)))
	}
	if p.Name == "" {
		bad("name", "must be given")
	}
	if len(p.Hosts) == 0 {
		bad("hosts", "must be given")
	}
	for _, h := range p.Hosts {
		if _, err := path.Match(h, ""); err != nil {
			bad("hosts", "%q: must be a name, in which * stands for any text", h)
		}
	}
	if p.Connections < 1 || p.Connections > 100 {
		bad("connections", "must be 1 to 100")
	}
	if p.Recipients < 1 || p.Recipients > 10_000 {
		bad("recipients", "must be 1 to 10000")
	}
	if min(p.Limits.PerMinute, p.Limits.PerHour, p.Limits.PerDay, p.Limits.RecipientsPerDay) < 0 {
		bad("limits", "must not be negative")
	}
	if p.Size < 0 {
		bad("size", "must not be negative")
	}
	if !slices.Contains([]string{CopyServer, CopyAppend, CopyProbe}, p.SentCopy) {
		bad("sentCopy", "%q: must be server, append or probe", p.SentCopy)
	}
	if !slices.Contains([]string{"", "brackets", "ses"}, p.MessageID) {
		bad("messageId", "%q: must be brackets or ses", p.MessageID)
	}
	for _, l := range p.LimitReplies {
		if l.Enhanced != "" && len(strings.Split(l.Enhanced, ".")) != 3 {
			bad("limitReplies", "%q: must be x.y.z", l.Enhanced)
		}
		if l.Code == 0 && l.Enhanced == "" {
			bad("limitReplies", "code or enhanced must be given")
		}
	}
	return errs
}

// Match chooses the profile of a submission server and an address. It is pure.
func (ps *Profiles) Match(host, address string) Profile {
	host = strings.ToLower(strings.TrimSuffix(host, "."))
	domain := strings.ToLower(address[strings.LastIndexByte(address, '@')+1:])
	for _, p := range ps.all {
		if slices.ContainsFunc(p.Hosts, func(pattern string) bool {
			ok, err := path.Match(strings.ToLower(pattern), host)
			return err == nil && ok
		}) && (len(p.Domains) == 0 || slices.Contains(p.Domains, domain)) {
			p.host = host
			return p
		}
	}
	return ps.all[len(ps.all)-1] // a host with a slash, which no * stands for
}

var bracketed = regexp.MustCompile(`<[^<>@\s]{1,200}@[^<>@\s]{1,200}>`)

// rewritten is the Message-ID that recipients see, where the server says in its reply to
// the final dot that it put its own; else "".
func (p *Profile) rewritten(reply string) string {
	switch p.MessageID {
	case "brackets":
		return bracketed.FindString(reply)
	case "ses": // "250 Ok 0100018c…-000000"
		f := strings.Fields(reply)
		region, ok := strings.CutPrefix(p.host, "email-smtp.")
		if region, _, _ = strings.Cut(region, "."); !ok || len(f) < 3 || !strings.EqualFold(f[1], "Ok") {
			return ""
		}
		if region == "us-east-1" {
			region = "email"
		}
		return "<" + f[len(f)-1] + "@" + region + ".amazonses.com>"
	}
	return ""
}

// limit says whether a reply is one of the profile's limit replies, and whether it means
// the number of connections.
func (p *Profile) limit(code int, enhanced [3]int, text string) (hit, connections bool) {
	text = strings.ToLower(text)
	for _, l := range p.LimitReplies {
		if l.Code != 0 && l.Code != code || !fits(l.Enhanced, enhanced) {
			continue
		}
		if len(l.Texts) == 0 || slices.ContainsFunc(l.Texts, func(t string) bool { return strings.Contains(text, t) }) {
			return true, l.Connections
		}
	}
	return false, false
}

// fits compares an enhanced code with a pattern like 5.7.* or 5.2.251-255.
func fits(pattern string, code [3]int) bool {
	if pattern == "" {
		return true
	}
	if code == [3]int{} {
		return false
	}
	for i, part := range strings.Split(pattern, ".") {
		from, to, _ := strings.Cut(part, "-")
		if to == "" {
			to = from
		}
		a, err1 := strconv.Atoi(from)
		b, err2 := strconv.Atoi(to)
		if part != "*" && (err1 != nil || err2 != nil || code[i] < a || code[i] > b) {
			return false
		}
	}
	return true
}
