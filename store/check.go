package store

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/redis/go-redis/v9"

	"github.com/postrider/postrider/store/secret"
)

// Check asks whether this Redis keeps what is entrusted to it: version 6.2 or later,
// maxmemory-policy noeviction, append-only file on. What it cannot find out, because
// CONFIG is forbidden, it warns of. With allowUnsafe everything is a warning.
//
// Errors: ErrUnsafe, with a sentence for each problem that says what to do.
func (s *Store) Check(ctx context.Context, allowUnsafe bool) (warnings []string, err error) {
	info, err := s.rdb.Info(ctx, "server").Result()
	if err != nil {
		return nil, unavailable("info", err)
	}
	var problems []string
	if v := infoField(info, "redis_version"); !atLeast(v, 6, 2) {
		problems = append(problems, fmt.Sprintf("this Redis is version %s: use 6.2 or later", v))
	}
	for _, c := range []struct{ key, want, problem string }{
		{"maxmemory-policy", "noeviction", "maxmemory-policy is %q, so Redis may evict cursors and events: set it to noeviction"},
		{"appendonly", "yes", "appendonly is %q, so a restart loses events: set appendonly yes"},
	} {
		got, err := s.rdb.ConfigGet(ctx, c.key).Result()
		switch {
		case err != nil && errors.Is(unavailable("", err), ErrUnavailable):
			return nil, unavailable("config get", err)
		case err != nil:
			warnings = append(warnings, fmt.Sprintf("cannot ask Redis for its %s (CONFIG is not allowed): make sure that it is %s", c.key, c.want))
		case got[c.key] != c.want:
			problems = append(problems, fmt.Sprintf(c.problem, got[c.key]))
		}
	}
	if len(problems) > 0 && !allowUnsafe {
		return warnings, fmt.Errorf("%w: %s", ErrUnsafe, strings.Join(problems, "; "))
	}
	return append(warnings, problems...), nil
}

func infoField(info, field string) string {
	for line := range strings.Lines(info) {
		if v, ok := strings.CutPrefix(strings.TrimSpace(line), field+":"); ok {
			return v
		}
	}
	return ""
}

// atLeast compares a dotted version with major.minor.
func atLeast(version string, major, minor int) bool {
	a, rest, _ := strings.Cut(version, ".")
	b, _, _ := strings.Cut(rest, ".")
	x, err := strconv.Atoi(a)
	y, err2 := strconv.Atoi(b)
	return err == nil && err2 == nil && (x > major || x == major && y >= minor)
}

// CheckKeys makes sure that what was sealed in this Redis can be opened: a text sealed
// at first start must open with a key that is here. Errors: secret.ErrNoKey.
func (s *Store) CheckKeys(ctx context.Context) error {
	const field = "keycheck"
	sealed := s.ring.Seal(secret.New("postrider"), "", field)
	if err := s.rdb.SetNX(ctx, s.k.keyCheck(), sealed, 0).Err(); err != nil {
		return unavailable("write key check", err)
	}
	stored, err := s.rdb.Get(ctx, s.k.keyCheck()).Result()
	if errors.Is(err, redis.Nil) {
		return nil
	}
	if err != nil {
		return unavailable("read key check", err)
	}
	if _, err := s.ring.Open(stored, "", field); err != nil {
		return fmt.Errorf("this Redis holds secrets sealed with another key: %w", err)
	}
	return nil
}
