package imapsync

import (
	"context"
	"testing"
	"time"

	"github.com/postrider/postrider/store"
)

// gossip tells of a folder that is not listed, whenever it is asked what it has heard.
type gossip struct{ Session }

func (g gossip) Changes() Changes {
	c := g.Session.Changes()
	c.Folders = append(c.Folders, FolderHint{Raw: "Secret"})
	return c
}

// A server that tells of folders without end that it does not list is not asked without end.
func TestNotify_of_folders_that_are_not_listed(t *testing.T) {
	bubble(t, true, func(d *den) {
		d.srv.notify = true
		d.dial = func(ctx context.Context, _ store.Account) (Session, error) {
			s, err := d.srv.dial(ctx)
			return gossip{s}, err
		}
		d.started()
		lists, _, _ := d.did(func() {
			for range 200 {
				d.srv.put("INBOX", "one")
				d.pass(3 * time.Second)
			}
		})
		if lists > 15 {
			d.t.Errorf("%d LISTs in ten minutes", lists)
		}
	})
}

// Somebody asks for a look while passes that follow each other without end are slowed down.
func TestBreathe_ends_with_a_kick(t *testing.T) {
	bubble(t, true, func(d *den) {
		d.dial = func(ctx context.Context, _ store.Account) (Session, error) {
			s, err := d.srv.dial(ctx)
			return &chatty{Session: s}, err
		}
		d.started()
		d.pass(time.Minute)
		d.srv.act(func() { d.srv.add("Archive", "one", time.Now()) })
		d.m.Kick(denAccount)
		d.pass(time.Second)
		d.expect("messageNew Archive <one> new")
	})
}

// chatty pushes something with each answer.
type chatty struct{ Session }

func (c chatty) Changes() Changes { c.Session.Changes(); return Changes{Exists: true} }

func (c chatty) Idle(context.Context, time.Duration) (IdleEnd, error) { return IdleChanged, nil }
