package store

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
)

// Gateway is a submission server that any account may send through instead of its own.
type Gateway struct {
	ID     string // 1–256 bytes without control characters
	Name   string
	Server Server

	Version uint64 // +1 with every change of the above
	Created time.Time
	Updated time.Time

	Use GatewayUse // what became of it; writing a Gateway leaves it alone
}

// GatewayUse says how a gateway fares.
type GatewayUse struct {
	Deliveries  uint64    // transactions that it accepted
	Last        time.Time // end of the last transaction, whatever came of it
	LastError   string    // "" since the last one that it accepted
	LastErrorAt time.Time
}

// gatewayRecord is a gateway as it is stored.
type gatewayRecord struct {
	Name    string        `json:"name,omitempty"`
	Server  *serverRecord `json:"server"`
	Version uint64        `json:"version"`
	Created time.Time     `json:"created"`
	Updated time.Time     `json:"updated"`
}

var putGatewayScript = script("gateway_put.lua")

// CreateGateway adds a gateway. Version, Created and Updated are given here.
// Errors: ErrExists.
func (s *Store) CreateGateway(ctx context.Context, g Gateway) (Gateway, error) {
	g.Version, g.Use = 0, GatewayUse{}
	g, err := s.putGateway(ctx, "", g)
	if errors.Is(err, ErrStale) {
		err = fmt.Errorf("gateway %q: %w", g.ID, ErrExists)
	}
	return g, err
}

// UpdateGateway changes a gateway by change, which may be called several times. With
// match above 0 the version must be that one. ID and Created stay.
//
// Errors: ErrNotFound, ErrStale, and what change answers.
func (s *Store) UpdateGateway(ctx context.Context, id string, match uint64, change func(*Gateway) error) (Gateway, error) {
	for try := 0; ; try++ {
		g, raw, err := s.gateway(ctx, id)
		if err != nil {
			return Gateway{}, err
		}
		if match > 0 && g.Version != match {
			return Gateway{}, fmt.Errorf("gateway %q: version %d: %w", id, match, ErrStale)
		}
		next := g
		if err := change(&next); err != nil {
			return Gateway{}, err
		}
		next.ID, next.Version, next.Created, next.Use = g.ID, g.Version, g.Created, g.Use
		next, err = s.putGateway(ctx, raw, next)
		if err == nil || !errors.Is(err, ErrStale) || match > 0 || try == 4 {
			return next, err
		}
	}
}

// putGateway writes a gateway in the place of what was read of it, with a new version.
func (s *Store) putGateway(ctx context.Context, was string, g Gateway) (Gateway, error) {
	now, err := s.Now(ctx)
	if err != nil {
		return Gateway{}, err
	}
	g.Version, g.Updated = g.Version+1, now.UTC()
	if g.Created.IsZero() {
		g.Created = g.Updated
	}
	b, err := json.Marshal(gatewayRecord{
		Name: g.Name, Server: s.sealServer("gateway:"+g.ID, "gateway", &g.Server), Version: g.Version, Created: g.Created, Updated: g.Updated,
	})
	if err != nil {
		return Gateway{}, fmt.Errorf("gateway %q: %w", g.ID, err)
	}
	return g, s.replaceGateway(ctx, g.ID, was, string(b))
}

// replaceGateway puts next in the place of was; "" is no gateway.
func (s *Store) replaceGateway(ctx context.Context, id, was, next string) error {
	v, err := putGatewayScript.run(ctx, s.rdb, []string{s.k.gateways(), s.k.gatewayUse(), s.k.gatewayGone(id)}, id, was, next)
	if err != nil {
		return err
	}
	if v != int64(1) {
		return fmt.Errorf("gateway %q: %w", id, ErrStale)
	}
	return nil
}

// DeleteGateway removes a gateway. Deleting again within a day is no error. Errors: ErrNotFound.
func (s *Store) DeleteGateway(ctx context.Context, id string) error {
	for try := 0; ; try++ {
		raw, err := s.rdb.HGet(ctx, s.k.gateways(), id).Result()
		if errors.Is(err, redis.Nil) {
			n, err := s.rdb.Exists(ctx, s.k.gatewayGone(id)).Result()
			if err == nil && n == 0 {
				return fmt.Errorf("gateway %q: %w", id, ErrNotFound)
			}
			return unavailable("read deleted gateway", err)
		}
		if err != nil {
			return unavailable("read gateway", err)
		}
		if err = s.replaceGateway(ctx, id, raw, ""); !errors.Is(err, ErrStale) || try == 4 {
			return err
		}
	}
}

// Gateway reads one gateway. Errors: ErrNotFound.
func (s *Store) Gateway(ctx context.Context, id string) (Gateway, error) {
	g, _, err := s.gateway(ctx, id)
	return g, err
}

// gateway reads a gateway and the bytes it was stored as, which guard its change.
func (s *Store) gateway(ctx context.Context, id string) (Gateway, string, error) {
	var stored *redis.StringCmd
	var use *redis.SliceCmd
	_, err := s.rdb.Pipelined(ctx, func(p redis.Pipeliner) error {
		stored, use = p.HGet(ctx, s.k.gateways(), id), p.HMGet(ctx, s.k.gatewayUse(), gatewayUseFields(id)...)
		return nil
	})
	if errors.Is(stored.Err(), redis.Nil) {
		return Gateway{}, "", fmt.Errorf("gateway %q: %w", id, ErrNotFound)
	}
	if err != nil {
		return Gateway{}, "", unavailable("read gateway", err)
	}
	fields := map[string]string{}
	for i, name := range gatewayUseFields(id) {
		fields[name], _ = use.Val()[i].(string)
	}
	g, err := s.openGateway(id, stored.Val(), fields)
	return g, stored.Val(), err
}

// Gateways reads all gateways, sorted by id. One whose record cannot be read is left out and
// logged: it must not cost the others.
func (s *Store) Gateways(ctx context.Context) ([]Gateway, error) {
	var stored, use *redis.MapStringStringCmd
	_, err := s.rdb.Pipelined(ctx, func(p redis.Pipeliner) error {
		stored, use = p.HGetAll(ctx, s.k.gateways()), p.HGetAll(ctx, s.k.gatewayUse())
		return nil
	})
	if err != nil {
		return nil, unavailable("read gateways", err)
	}
	list := make([]Gateway, 0, len(stored.Val()))
	for id, raw := range stored.Val() {
		g, err := s.openGateway(id, raw, use.Val())
		if err != nil {
			s.log.Error("gateway record unreadable", "gateway", id, "err", err)
			continue
		}
		list = append(list, g)
	}
	slices.SortFunc(list, func(a, b Gateway) int { return cmp.Compare(a.ID, b.ID) })
	return list, nil
}

// gatewayUseFields are the fields of the use of one gateway: deliveries, last use, last
// error, and when that was.
func gatewayUseFields(id string) []string {
	return []string{"n:" + id, "at:" + id, "e:" + id, "eAt:" + id}
}

func (s *Store) openGateway(id, raw string, use map[string]string) (Gateway, error) {
	var r gatewayRecord
	if err := json.Unmarshal([]byte(raw), &r); err != nil {
		return Gateway{}, fmt.Errorf("gateway %q: %w", id, err)
	}
	srv, err := s.openServer("gateway:"+id, "gateway", r.Server)
	if err == nil && srv == nil {
		err = errors.New("its server is missing")
	}
	if err != nil {
		return Gateway{}, fmt.Errorf("gateway %q: %w", id, err)
	}
	g := Gateway{ID: id, Name: r.Name, Server: *srv, Version: r.Version, Created: r.Created, Updated: r.Updated}
	f := gatewayUseFields(id)
	g.Use.Deliveries, _ = strconv.ParseUint(use[f[0]], 10, 64)
	g.Use.Last, g.Use.LastError, g.Use.LastErrorAt = millis(use[f[1]]), use[f[2]], millis(use[f[3]])
	return g, nil
}

// millis reads a time in Unix ms; what is none is the zero time.
func millis(s string) time.Time {
	ms, err := strconv.ParseInt(s, 10, 64)
	if err != nil {
		return time.Time{}
	}
	return time.UnixMilli(ms).UTC()
}

// maxGatewayError is the most that is kept of an error, in bytes.
const maxGatewayError = 1000

var useGatewayScript = script("gateway_use.lua")

// UseGateway notes the end of a transaction with a gateway: failure "" is one that it
// accepted. A gateway that is gone is left so.
func (s *Store) UseGateway(ctx context.Context, id, failure string) error {
	if len(failure) > maxGatewayError {
		failure = strings.ToValidUTF8(failure[:maxGatewayError], "")
	}
	_, err := useGatewayScript.run(ctx, s.rdb, []string{s.k.gateways(), s.k.gatewayUse()}, id, failure)
	return err
}
