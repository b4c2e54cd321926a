package store

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/redis/go-redis/v9"
)

//go:embed lua/*.lua
var luaFiles embed.FS

// luaScript is an embedded script. Its file begins with its contract.
type luaScript struct {
	name string
	lua  *redis.Script
}

// script loads an embedded script with the libraries it needs in front of it; a missing
// file is a mistake of ours and ends the program as it starts.
func script(name string, libs ...string) luaScript {
	var src strings.Builder
	for _, f := range append(slices.Clone(libs), name) {
		b, err := luaFiles.ReadFile("lua/" + f)
		if err != nil {
			panic(err)
		}
		src.WriteString(string(b) + "\n")
	}
	return luaScript{name: name, lua: redis.NewScript(src.String())}
}

// run calls the script by its hash, and sends its source where Redis has forgotten it.
func (l luaScript) run(ctx context.Context, c redis.Scripter, keys []string, args ...any) (any, error) {
	v, err := l.lua.Run(ctx, c, keys, args...).Result()
	if err != nil && !errors.Is(err, redis.Nil) {
		return nil, unavailable("script "+l.name, err)
	}
	return v, nil
}

// slice reads a script's answer that must be a list.
func (l luaScript) slice(ctx context.Context, c redis.Scripter, keys []string, args ...any) ([]any, error) {
	v, err := l.run(ctx, c, keys, args...)
	if err != nil {
		return nil, err
	}
	list, ok := v.([]any)
	if !ok {
		return nil, fmt.Errorf("script %s answered %T", l.name, v)
	}
	return list, nil
}
