package main

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"maps"
	"os"
	"slices"
	"strings"

	"go.yaml.in/yaml/v4"
)

// loaded is a configuration with the story of how it came about.
type loaded struct {
	Config
	file    string            // "" = none
	sources map[string]string // key → "file:line", "$VARIABLE", "--flag"; absent = default

	secretsInFile bool     // the file itself holds secrets, so its mode matters
	secretFiles   []string // named by …_FILE variables
}

// maxConfigSize bounds what is read as a configuration or as a value from a file.
const maxConfigSize = 1 << 20

// configFiles are looked for in this order when none is named.
func configFiles() []string { return []string{"postrider.yaml", "/etc/postrider/postrider.yaml"} }

// loadConfig reads file, environment and flags over the defaults. flags maps keys to
// values. The error joins every problem found, each with its place.
func loadConfig(file string, p *program, flags map[string]string) (*loaded, error) {
	l := &loaded{Config: defaultConfig(), sources: map[string]string{}}
	var errs []error
	if file = cmp.Or(file, p.getenv("POSTRIDER_CONFIG")); file == "" {
		for _, f := range configFiles() {
			if _, err := os.Stat(f); err == nil {
				file = f
				break
			}
		}
	}
	if file != "" {
		errs = append(errs, l.readFile(file)...)
	}
	errs = append(errs, l.readEnv(p.env)...)
	for _, f := range l.fields() {
		if v, ok := flags[f.key]; ok {
			l.sources[f.key] = "the command line"
			if err := f.setText(v); err != nil {
				errs = append(errs, fmt.Errorf("%s (the command line): %w", f.key, err))
			}
		}
	}
	if len(errs) == 0 { // a value that was not understood is not judged as well
		for _, pr := range l.problems() {
			errs = append(errs, fmt.Errorf("%s (%s): %w", pr.key, l.source(pr.key), pr.err))
		}
	}
	if len(errs) > 0 {
		return nil, usageError{errors.Join(errs...)}
	}
	return l, nil
}

// source says where the value of a key, or of a group of keys, comes from.
func (l *loaded) source(key string) string {
	if s, ok := l.sources[key]; ok {
		return s
	}
	for _, f := range l.fields() {
		if s, ok := l.sources[f.key]; ok && strings.HasPrefix(f.key, key+".") {
			return s
		}
	}
	return "default"
}

func (l *loaded) readFile(file string) []error {
	l.file = file
	b, err := readBounded(file)
	if err != nil {
		return []error{fmt.Errorf("configuration: %w", err)}
	}
	var doc yaml.Node
	if err := yaml.Unmarshal(b, &doc); err != nil {
		return []error{fmt.Errorf("%s: %w", file, err)}
	}
	if doc.Kind == 0 || len(doc.Content) == 0 {
		return nil // empty, or comments only
	}
	byKey := map[string]field{}
	for _, f := range l.fields() {
		byKey[f.key] = f
	}
	var errs []error
	bad := func(n *yaml.Node, format string, a ...any) {
		errs = append(errs, fmt.Errorf("%s:%d: %w", file, n.Line, fmt.Errorf(format, a...)))
	}
	var walk func(prefix string, n *yaml.Node)
	walk = func(prefix string, n *yaml.Node) {
		if n.Kind == yaml.AliasNode {
			bad(n, "aliases are not supported")
			return
		}
		if n.Kind == yaml.ScalarNode && n.Tag == "!!null" {
			return // "api:" with everything below it commented out
		}
		if n.Kind != yaml.MappingNode {
			bad(n, "%s must hold keys", cmp.Or(strings.TrimSuffix(prefix, "."), "the file"))
			return
		}
		groups := map[string]int{} // line
		for i := 0; i+1 < len(n.Content); i += 2 {
			k, v := n.Content[i], n.Content[i+1]
			key := prefix + k.Value
			f, leaf := byKey[key]
			switch {
			case groups[key] != 0:
				bad(k, "%s is here twice (%s:%d)", key, file, groups[key])
				continue
			case !leaf && !isGroup(byKey, key):
				bad(k, "unknown key %s%s", key, nearest(maps.Keys(byKey), key))
				continue
			case !leaf:
				groups[key] = k.Line
				walk(key+".", v)
				continue
			case l.sources[key] != "":
				bad(k, "%s is here twice (%s)", key, l.sources[key])
				continue
			}
			if v.Kind == yaml.ScalarNode && v.Tag == "!!null" {
				continue
			}
			l.sources[key] = fmt.Sprintf("%s:%d", file, k.Line)
			var words []string
			var err error
			switch {
			case f.v.Type() == nestedType:
				words, err = nestedWords(v, map[string]any{}, "keys")
			case f.v.Type() == nestedListType:
				words, err = nestedWords(v, []any{}, "a list")
			case v.Kind == yaml.SequenceNode && !f.isList():
				err = errNotList
			default:
				words, err = nodeWords(v)
			}
			if err == nil {
				err = f.set(words)
			}
			if err != nil {
				bad(v, "%s: %w", key, err)
			}
			if f.isSecret() && f.reveal() != "" && (key != "redis.url" || strings.Contains(f.reveal(), "@")) {
				l.secretsInFile = true
			}
		}
	}
	walk("", doc.Content[0])
	return errs
}

var errNotList = errors.New("must be one value, not a list")

func nodeWords(n *yaml.Node) ([]string, error) {
	switch n.Kind {
	case yaml.ScalarNode:
		return []string{n.Value}, nil
	case yaml.SequenceNode:
		words := make([]string, len(n.Content))
		for i, e := range n.Content {
			if e.Kind != yaml.ScalarNode {
				return nil, errors.New("must be a list of plain values")
			}
			words[i] = e.Value
		}
		return words, nil
	}
	return nil, errors.New("must be a value, not keys of its own")
}

// nestedWords is a node with all that it holds, which is like into, as one line of JSON.
func nestedWords[T any](n *yaml.Node, into T, what string) ([]string, error) {
	if err := n.Decode(&into); err != nil {
		return nil, fmt.Errorf("must hold %s: %w", what, err)
	}
	b, err := json.Marshal(into)
	return []string{string(b)}, err
}

func isGroup(byKey map[string]field, key string) bool {
	for k := range byKey {
		if strings.HasPrefix(k, key+".") {
			return true
		}
	}
	return false
}

// commandVariables are the commands' own, no keys.
func commandVariables() []string {
	return []string{"POSTRIDER_CONFIG", "POSTRIDER_URL", "POSTRIDER_TOKEN"}
}

func (l *loaded) readEnv(env []string) []error {
	byEnv := map[string]field{}
	for _, f := range l.fields() {
		byEnv[f.env()] = f
	}
	var errs []error
	from := map[string]string{} // key → variable, to see both forms of one key
	for _, kv := range env {
		name, value, _ := strings.Cut(kv, "=")
		if !strings.HasPrefix(name, "POSTRIDER_") || strings.HasPrefix(name, "POSTRIDER_TEST_") || slices.Contains(commandVariables(), name) {
			continue
		}
		f, ok := byEnv[name]
		if base, isFile := strings.CutSuffix(name, "_FILE"); !ok && isFile {
			if f, ok = byEnv[base]; ok {
				b, err := readBounded(value)
				if err != nil {
					errs = append(errs, fmt.Errorf("$%s: %w", name, err))
					continue
				}
				l.secretFiles = append(l.secretFiles, value)
				value = strings.TrimRight(string(b), "\r\n")
			}
		}
		if !ok {
			errs = append(errs, fmt.Errorf("unknown variable %s%s", name, nearest(maps.Keys(byEnv), name)))
			continue
		}
		if other, twice := from[f.key]; twice {
			errs = append(errs, fmt.Errorf("%s is given twice: $%s and $%s", f.key, other, name))
			continue
		}
		from[f.key] = name
		l.sources[f.key] = "$" + name
		if err := f.setText(value); err != nil {
			errs = append(errs, fmt.Errorf("$%s: %w", name, err))
		}
	}
	return errs
}

func readBounded(file string) ([]byte, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxConfigSize+1))
	if err == nil && len(b) > maxConfigSize {
		err = fmt.Errorf("%s is larger than %d bytes", file, maxConfigSize)
	}
	return b, err
}

// nearest offers the known name that a typing error was probably meant to be.
func nearest(known iter.Seq[string], name string) string {
	best, distance := "", 4
	for k := range known {
		if d := editDistance(strings.ToLower(k), strings.ToLower(name)); d < distance || d == distance && k < best {
			best, distance = k, d
		}
	}
	if best == "" {
		return ""
	}
	return ": did you mean " + best + "?"
}

// editDistance is Levenshtein's.
func editDistance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j+1]+1, row[j]+1)
		}
	}
	return row[len(b)]
}
