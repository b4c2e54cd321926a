package store

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
)

// Token is what is known of an API token. Its value is not: only a hash of it is kept.
type Token struct {
	ID          string          `json:"id"`
	Description string          `json:"description,omitempty"`
	Scopes      []string        `json:"scopes"`
	Account     AccountID       `json:"account,omitempty"`   // bound to it; "" = not bound
	Addresses   []string        `json:"addresses,omitempty"` // CIDRs it may come from; empty = any
	RateMax     int             `json:"rateMax,omitempty"`   // requests a window; 0 = no limit
	RateWindow  int             `json:"rateWindow,omitempty"`
	Created     time.Time       `json:"created"`
	Expires     time.Time       `json:"expires,omitzero"`
	LastUse     time.Time       `json:"lastUse,omitzero"` // to the minute
	LastAddress string          `json:"lastAddress,omitempty"`
	Metadata    json.RawMessage `json:"metadata,omitempty"`
}

// tokensFor is how long a looked-up token is believed: a revoked one dies within it.
const tokensFor = 5 * time.Second

// tokenCache remembers look-ups, of unknown values too. It is emptied when it is full.
type tokenCache struct {
	mu sync.Mutex
	m  map[string]cachedToken
}

type cachedToken struct {
	t     Token
	known bool
	at    time.Time
}

const maxCachedTokens = 10_000

const base62 = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"

// newTokenValue makes "ptr_", 40 base62 characters (238 bits) and 6 that check them,
// so that scanners and typing errors can be told.
func newTokenValue() string {
	var b strings.Builder
	for b.Len() < 40 {
		var c [1]byte
		rand.Read(c[:])
		if int(c[0]) < 4*len(base62) { // even odds for each character
			b.WriteByte(base62[int(c[0])%len(base62)])
		}
	}
	return "ptr_" + b.String() + tokenCheck(b.String())
}

func tokenCheck(s string) string {
	n := crc32.ChecksumIEEE([]byte(s))
	var out [6]byte
	for i := range out {
		out[len(out)-1-i] = base62[n%62]
		n /= 62
	}
	return string(out[:])
}

// WellFormedToken says whether a value can be one of ours, without asking anybody.
func WellFormedToken(v string) bool {
	body, ok := strings.CutPrefix(v, "ptr_")
	return ok && len(body) == 46 && tokenCheck(body[:40]) == body[40:]
}

func tokenHash(value string) string {
	sum := sha256.Sum256([]byte(value))
	return hex.EncodeToString(sum[:])
}

// CreateToken makes a token; its value is given once, here. ID and Created are set.
func (s *Store) CreateToken(ctx context.Context, t Token) (value string, _ Token, err error) {
	value = newTokenValue()
	t, err = s.putToken(ctx, value, t)
	return value, t, err
}

// ImportToken stores a token whose value the operator chose: 32 characters or more.
// Importing it again changes nothing.
func (s *Store) ImportToken(ctx context.Context, value string, t Token) error {
	if len(value) < 32 {
		return errors.New("an API token has at least 32 characters")
	}
	known, err := s.rdb.HExists(ctx, s.k.tokens(), tokenHash(value)).Result()
	if err != nil || known {
		return unavailable("read token", err)
	}
	_, err = s.putToken(ctx, value, t)
	return err
}

func (s *Store) putToken(ctx context.Context, value string, t Token) (Token, error) {
	now, err := s.Now(ctx)
	if err != nil {
		return Token{}, err
	}
	hash := tokenHash(value)
	t.ID, t.Created = tokenID(hash), now.UTC().Truncate(time.Second)
	b, err := json.Marshal(t)
	if err != nil {
		return Token{}, err
	}
	if err := s.rdb.HSet(ctx, s.k.tokens(), hash, b).Err(); err != nil {
		return Token{}, unavailable("write token", err)
	}
	s.forgetTokens()
	return t, nil
}

// tokenID names a token by the beginning of its hash, which gives nothing of it away.
func tokenID(hash string) string { return "tok_" + hash[:16] }

var firstTokenScript = redis.NewScript(`
-- A token with all rights where there is none at all: of two processes that start at
-- once, one makes it.
if redis.call('HLEN', KEYS[1]) > 0 then return 0 end
return redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])`)

// FirstToken makes a token with all rights when no token exists.
func (s *Store) FirstToken(ctx context.Context) (value string, created bool, err error) {
	value = newTokenValue()
	now, err := s.Now(ctx)
	if err != nil {
		return "", false, err
	}
	hash := tokenHash(value)
	b, err := json.Marshal(Token{ID: tokenID(hash), Description: "first token", Scopes: []string{"*"}, Created: now.UTC().Truncate(time.Second)})
	if err != nil {
		return "", false, err
	}
	n, err := firstTokenScript.Run(ctx, s.rdb, []string{s.k.tokens()}, hash, b).Int()
	if err != nil || n == 0 {
		return "", false, unavailable("make first token", err)
	}
	s.forgetTokens()
	return value, true, nil
}

// TokenByValue finds a token, at most 5 s after it was changed. Errors: ErrNotFound.
func (s *Store) TokenByValue(ctx context.Context, value string) (Token, error) {
	hash := tokenHash(value)
	s.tokens.mu.Lock()
	c, ok := s.tokens.m[hash]
	s.tokens.mu.Unlock()
	if !ok || time.Since(c.at) >= tokensFor {
		b, err := s.rdb.HGet(ctx, s.k.tokens(), hash).Bytes()
		if err != nil && !errors.Is(err, redis.Nil) {
			return Token{}, unavailable("read token", err)
		}
		c = cachedToken{known: err == nil, at: time.Now()}
		if c.known {
			if err := json.Unmarshal(b, &c.t); err != nil {
				return Token{}, fmt.Errorf("token %s: %w", tokenID(hash), err)
			}
		}
		s.tokens.mu.Lock()
		if s.tokens.m == nil || len(s.tokens.m) >= maxCachedTokens {
			s.tokens.m = map[string]cachedToken{}
		}
		s.tokens.m[hash] = c
		s.tokens.mu.Unlock()
	}
	if !c.known {
		return Token{}, fmt.Errorf("token: %w", ErrNotFound)
	}
	return c.t, nil
}

func (s *Store) forgetTokens() {
	s.tokens.mu.Lock()
	s.tokens.m = nil
	s.tokens.mu.Unlock()
}

// allTokens reads all tokens by their hash.
func (s *Store) allTokens(ctx context.Context) (map[string]Token, error) {
	raw, err := s.rdb.HGetAll(ctx, s.k.tokens()).Result()
	if err != nil {
		return nil, unavailable("read tokens", err)
	}
	all := make(map[string]Token, len(raw))
	for hash, b := range raw {
		var t Token
		if err := json.Unmarshal([]byte(b), &t); err != nil {
			return nil, fmt.Errorf("token %s: %w", tokenID(hash), err)
		}
		all[hash] = t
	}
	return all, nil
}

// Tokens lists all tokens, oldest first.
func (s *Store) Tokens(ctx context.Context) ([]Token, error) {
	all, err := s.allTokens(ctx)
	if err != nil {
		return nil, err
	}
	list := make([]Token, 0, len(all))
	for _, t := range all {
		list = append(list, t)
	}
	slices.SortFunc(list, func(a, b Token) int {
		if c := a.Created.Compare(b.Created); c != 0 {
			return c
		}
		return strings.Compare(a.ID, b.ID)
	})
	return list, nil
}

// DeleteToken revokes a token. Errors: ErrNotFound.
func (s *Store) DeleteToken(ctx context.Context, id string) error {
	return s.deleteTokens(ctx, id, func(t Token) bool { return t.ID == id })
}

// DeleteAccountTokens revokes all tokens bound to an account.
func (s *Store) DeleteAccountTokens(ctx context.Context, id AccountID) error {
	err := s.deleteTokens(ctx, "", func(t Token) bool { return t.Account == id && id != "" })
	if errors.Is(err, ErrNotFound) {
		return nil
	}
	return err
}

func (s *Store) deleteTokens(ctx context.Context, id string, gone func(Token) bool) error {
	all, err := s.allTokens(ctx)
	if err != nil {
		return err
	}
	var hashes []string
	for hash, t := range all {
		if gone(t) {
			hashes = append(hashes, hash)
		}
	}
	if len(hashes) == 0 {
		return fmt.Errorf("token %q: %w", id, ErrNotFound)
	}
	if err := s.rdb.HDel(ctx, s.k.tokens(), hashes...).Err(); err != nil {
		return unavailable("delete token", err)
	}
	s.forgetTokens()
	return nil
}

// UseToken notes that a token was used from addr, to the minute.
func (s *Store) UseToken(ctx context.Context, id, addr string) error {
	now, err := s.Now(ctx)
	if err != nil {
		return err
	}
	minute := now.UTC().Truncate(time.Minute)
	all, err := s.allTokens(ctx)
	if err != nil {
		return err
	}
	for hash, t := range all {
		if t.ID != id || t.LastUse.Equal(minute) && t.LastAddress == addr {
			continue
		}
		old, err := json.Marshal(t)
		if err != nil {
			return err
		}
		t.LastUse, t.LastAddress = minute, addr
		b, err := json.Marshal(t)
		if err != nil {
			return err
		}
		// Only where nobody deleted or changed it meanwhile: a revoked token must stay dead.
		if err := useTokenScript.Run(ctx, s.rdb, []string{s.k.tokens()}, hash, old, b).Err(); err != nil {
			return unavailable("note use of token", err)
		}
	}
	return nil
}

var useTokenScript = redis.NewScript(`
if redis.call('HGET', KEYS[1], ARGV[1]) == ARGV[2] then redis.call('HSET', KEYS[1], ARGV[1], ARGV[3]) end
return 1`)
