package main

import (
	"errors"
	"fmt"
	"math"
	"reflect"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/postrider/postrider/store/secret"
)

// size is a number of bytes; in text like 256MiB.
type size int64

// units of sizes, the largest first.
var units = []struct {
	name  string
	bytes size
}{{"TiB", 1 << 40}, {"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10}, {"B", 1}}

func (n size) String() string {
	for _, u := range units {
		if n >= u.bytes && n%u.bytes == 0 {
			return strconv.FormatInt(int64(n/u.bytes), 10) + u.name
		}
	}
	return "0B"
}

func parseSize(s string) (size, error) {
	for _, u := range units {
		if digits, ok := strings.CutSuffix(s, u.name); ok {
			if n, err := strconv.ParseInt(digits, 10, 64); err == nil && n >= 0 && n <= math.MaxInt64/int64(u.bytes) {
				return size(n) * u.bytes, nil
			}
			break
		}
	}
	return 0, errors.New("must be a size such as 256MiB")
}

// field is one key of Config.
type field struct {
	key string
	v   reflect.Value
}

// nested is a key that holds keys of its own, as YAML or JSON; in the environment it is
// that text. nestedList holds a list of such.
type (
	nested     string
	nestedList string
)

var (
	nestedType     = reflect.TypeFor[nested]()
	nestedListType = reflect.TypeFor[nestedList]()
	textType       = reflect.TypeFor[secret.Text]()
	durationType   = reflect.TypeFor[time.Duration]()
	sizeType       = reflect.TypeFor[size]()
)

// fields lists all keys in the order of the struct.
func (c *Config) fields() []field {
	var out []field
	var walk func(prefix string, v reflect.Value)
	walk = func(prefix string, v reflect.Value) {
		for i := range v.NumField() {
			key := prefix + v.Type().Field(i).Tag.Get("yaml")
			if f := v.Field(i); f.Kind() == reflect.Struct && f.Type() != textType {
				walk(key+".", f)
			} else {
				out = append(out, field{key, f})
			}
		}
	}
	walk("", reflect.ValueOf(c).Elem())
	return out
}

// env is the name of the field's variable: api.trustedProxies → POSTRIDER_API_TRUSTED_PROXIES.
func (f field) env() string {
	var b strings.Builder
	var last rune
	for _, r := range f.key {
		if r == '.' {
			r = '_'
		} else if unicode.IsUpper(r) && unicode.IsLower(last) {
			b.WriteByte('_')
		}
		b.WriteRune(unicode.ToUpper(r))
		last = r
	}
	return "POSTRIDER_" + b.String()
}

func (f field) isList() bool { return f.v.Kind() == reflect.Slice }

// isSecret: redis.url counts, it may hold a password.
func (f field) isSecret() bool {
	return f.v.Type() == textType || f.isList() && f.v.Type().Elem() == textType
}

// set parses the words of a value: one, or any number for a list.
func (f field) set(words []string) error {
	if !f.isList() {
		if len(words) != 1 {
			return errNotList
		}
		return setScalar(f.v, words[0])
	}
	list := reflect.MakeSlice(f.v.Type(), len(words), len(words))
	for i, w := range words {
		if err := setScalar(list.Index(i), w); err != nil {
			return err
		}
	}
	f.v.Set(list)
	return nil
}

// setText parses a value of the environment or a flag, where commas separate.
func (f field) setText(s string) error {
	if !f.isList() {
		return f.set([]string{s})
	}
	var words []string
	for w := range strings.SplitSeq(s, ",") {
		if w = strings.TrimSpace(w); w != "" {
			words = append(words, w)
		}
	}
	return f.set(words)
}

func setScalar(v reflect.Value, s string) error {
	switch {
	case v.Type() == textType:
		v.Set(reflect.ValueOf(secret.New(s)))
	case v.Type() == durationType:
		d, err := time.ParseDuration(s)
		if err != nil || d < 0 {
			return errors.New("must be a time such as 30s or 72h")
		}
		v.SetInt(int64(d))
	case v.Type() == sizeType:
		n, err := parseSize(s)
		if err != nil {
			return err
		}
		v.SetInt(int64(n))
	case v.Kind() == reflect.String:
		v.SetString(s)
	case v.Kind() == reflect.Bool:
		if s != "true" && s != "false" {
			return errors.New("must be true or false")
		}
		v.SetBool(s == "true")
	case v.Kind() == reflect.Int:
		n, err := strconv.Atoi(s)
		if err != nil {
			return errors.New("must be a whole number")
		}
		v.SetInt(int64(n))
	case v.Kind() == reflect.Float64:
		x, err := strconv.ParseFloat(s, 64)
		if err != nil || math.IsNaN(x) || math.IsInf(x, 0) {
			return errors.New("must be a number")
		}
		v.SetFloat(x)
	default:
		return fmt.Errorf("cannot be set (%s)", v.Type()) // a new kind of field: its test fails
	}
	return nil
}

// show prints the value, secrets masked.
func (f field) show() string {
	if f.isList() {
		words := make([]string, f.v.Len())
		for i := range words {
			words[i] = fmt.Sprint(f.v.Index(i).Interface())
		}
		return strings.Join(words, ",")
	}
	return fmt.Sprint(f.v.Interface())
}

// reveal is show without the mask.
func (f field) reveal() string {
	switch v := f.v.Interface().(type) {
	case secret.Text:
		return v.Reveal()
	case []secret.Text:
		var b strings.Builder
		for _, t := range v {
			b.WriteString(t.Reveal() + ",")
		}
		return b.String()
	}
	return f.show()
}
