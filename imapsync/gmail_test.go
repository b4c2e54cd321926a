package imapsync

import (
	"context"
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/postrider/postrider/events"
	"github.com/postrider/postrider/imapsync/imaptest"
	"github.com/postrider/postrider/store"
)

const (
	gmailRoot = "[Gmail]/"
	allMail   = gmailRoot + "All Mail"
)

// gmailed runs f with an engine over a model of Gmail.
func gmailed(t *testing.T, f func(d *den, u *imaptest.ModelUser, k *knife)) {
	t.Helper()
	modelled(t, imaptest.T0(), f)
}

// gmailUp brings the engine up on a Gmail account and takes the first events.
func (d *den) gmailUp(more ...string) {
	d.t.Helper()
	d.up()
	d.pass(3 * time.Second)
	d.labels(slices.Concat(
		[]string{"accountAdded", "authenticationSuccess", "mailboxNew All Mail", "mailboxNew Spam", "mailboxNew Trash"}, more, []string{"accountInitialized"},
	)...)
}

// labels expects events since the last call, with what they say of labels.
func (d *den) labels(want ...string) {
	d.t.Helper()
	type set struct{ Added, Deleted, Value []string }
	var got []string
	for e, err := range d.st.Journal(d.t.Context(), denAccount, d.last) {
		d.ok(err)
		d.last = e.Seq
		var p struct {
			Subject, Origin, MessageSpecialUse, Evidence string
			SeemsLikeNew                                 bool
			Labels                                       []string
			Previous                                     struct{ Path string }
			Changes                                      struct{ Flags, Labels *set }
			Related                                      *struct{ Path, Evidence, Confidence string }
		}
		d.ok(json.Unmarshal(e.Data.(events.Raw), &p))
		words := []string{string(e.Type), e.Path, p.Subject, p.Origin, p.MessageSpecialUse}
		if p.SeemsLikeNew {
			words = append(words, "seemsLikeNew")
		}
		if p.Previous.Path != "" {
			words = append(words, "from "+p.Previous.Path, p.Evidence)
		}
		if p.Labels != nil {
			words = append(words, "("+strings.Join(p.Labels, ", ")+")")
		}
		for name, s := range map[string]*set{"flags": p.Changes.Flags, "labels": p.Changes.Labels} {
			if s != nil {
				words = append(words, name+" +("+strings.Join(s.Added, ", ")+") -("+strings.Join(s.Deleted, ", ")+") =("+strings.Join(s.Value, ", ")+")")
			}
		}
		slices.Sort(words[5:])
		if r := p.Related; r != nil {
			words = append(words, "~", r.Path, r.Confidence, r.Evidence)
		}
		words = slices.DeleteFunc(words, func(w string) bool { return w == "" })
		got = append(got, strings.ReplaceAll(strings.Join(words, " "), gmailRoot, ""))
	}
	if diff := cmp.Diff(want, got); diff != "" {
		d.t.Fatalf("events (-want +got):\n%s", diff)
	}
}

// gmailSettled says after a while in which nothing more is told.
func (d *den) gmailSettled(u *imaptest.ModelUser) {
	d.t.Helper()
	d.pass(3 * time.Minute)
	d.labels()
	d.gmailAgrees(u)
}

// gmailAgrees holds folder state, and the labels that events told of, against the server.
func (d *den) gmailAgrees(u *imaptest.ModelUser) {
	d.t.Helper()
	type message struct{ Flags, Labels []string }
	told := d.toldLabels()
	for _, folder := range []string{allMail, gmailRoot + "Spam", gmailRoot + "Trash"} {
		labels, err := u.Labels(d.t.Context(), folder)
		d.ok(err)
		want, got := map[uint32]message{}, map[uint32]message{}
		for uid, flags := range d.truth()[folder] {
			want[uid] = message{flags, labels[uid]}
		}
		for uid, r := range d.records(folder) {
			got[uid] = message{r.Flags, r.Labels}
		}
		if diff := cmp.Diff(want, got, cmpopts.EquateEmpty()); diff != "" {
			d.t.Fatalf("%s (-server +state):\n%s", folder, diff)
		}
		for uid, now := range told[folder] {
			if diff := cmp.Diff(labels[uid], now, cmpopts.EquateEmpty()); diff != "" {
				d.t.Fatalf("labels of UID %d of %s (-server +events):\n%s", uid, folder, diff)
			}
		}
	}
}

// toldLabels folds up what events say of labels, of messages that they say are there.
func (d *den) toldLabels() map[string]map[uint32][]string {
	d.t.Helper()
	out := map[string]map[uint32][]string{}
	for e, err := range d.st.Journal(d.t.Context(), denAccount, 0) {
		d.ok(err)
		var p struct {
			UID      uint32
			Labels   []string
			Previous struct {
				Path string
				UID  uint32
			}
			Changes struct{ Labels *struct{ Value []string } }
		}
		d.ok(json.Unmarshal(e.Data.(events.Raw), &p))
		if out[e.Path] == nil {
			out[e.Path] = map[uint32][]string{}
		}
		switch e.Type {
		case events.MessageNewType, events.MessageMovedType:
			delete(out[p.Previous.Path], p.Previous.UID)
			out[e.Path][p.UID] = p.Labels
		case events.MessageUpdatedType:
			if p.Changes.Labels != nil {
				out[e.Path][p.UID] = p.Changes.Labels.Value
			}
		case events.MessageDeletedType:
			delete(out[e.Path], p.UID)
		}
	}
	return out
}

// write has a message arrive in a folder.
func (d *den) write(u *imaptest.ModelUser, folder, subject string, at time.Time) {
	d.t.Helper()
	_, err := u.Append(d.t.Context(), folder, imaptest.Message(subject+"@x", subject), nil, at)
	d.ok(err)
}

// A message is told once, with its labels, and a label that comes or goes is an update.
func TestGmail_labels(t *testing.T) {
	for _, identity := range []string{store.IdentityAuto, store.IdentityFull, store.IdentityNone} {
		t.Run(identity, func(t *testing.T) {
			gmailed(t, func(d *den, u *imaptest.ModelUser, _ *knife) {
				ctx := d.t.Context()
				d.set(map[string]any{"storeIdentity": identity})
				d.ok(u.CreateFolder(ctx, "Work"))
				d.write(u, "INBOX", "old", time.Now().Add(-100*24*time.Hour))
				d.gmailUp()
				d.planHas("All Mail: live (IDLE)")
				d.planHas("2 folders: every")
				d.planHas("labels: a message is watched once")

				d.write(u, "INBOX", "a", time.Now())
				d.pass(time.Second)
				d.labels(`messageNew All Mail a new \Inbox (\Inbox) seemsLikeNew`)

				d.ok(u.Label(ctx, allMail, []uint32{2}, []string{"Work", "Größe"}, nil))
				d.pass(time.Second)
				d.labels(`messageUpdated All Mail labels +(Größe, Work) -() =(Größe, Work, \Inbox)`)

				d.ok(u.AddFlags(ctx, allMail, []uint32{1, 2}, `\Seen`))
				d.pass(time.Second)
				d.labels(
					`messageUpdated All Mail flags +(\Seen) -() =(\Seen)`,
					`messageUpdated All Mail flags +(\Seen) -() =(\Seen)`,
				)

				d.ok(u.Label(ctx, allMail, []uint32{2}, nil, []string{"Größe"}))
				d.pass(time.Second)
				d.labels(`messageUpdated All Mail labels +() -(Größe) =(Work, \Inbox)`)

				d.ok(u.Expunge(ctx, "INBOX", 2)) // archived
				d.pass(time.Second)
				d.labels(`messageUpdated All Mail labels +() -(\Inbox) =(Work)`)

				d.write(u, allMail, "archived", time.Now())
				d.write(u, gmailRoot+"Sent Mail", "sent", time.Now())
				d.pass(time.Second)
				d.labels(`messageNew All Mail archived new () seemsLikeNew`, `messageNew All Mail sent new \Sent (\Sent)`)
				d.gmailSettled(u)
			})
		})
	}
}

// Drafts and sent mail do not look new; a draft that is sent changes its labels.
func TestGmail_draft_is_sent(t *testing.T) {
	gmailed(t, func(d *den, u *imaptest.ModelUser, _ *knife) {
		d.gmailUp()
		d.write(u, gmailRoot+"Drafts", "letter", time.Now())
		d.pass(time.Second)
		d.labels(`messageNew All Mail letter new \Drafts (\Draft)`)
		d.ok(u.Label(d.t.Context(), allMail, []uint32{1}, []string{`\Sent`}, []string{`\Draft`}))
		d.pass(time.Second)
		d.labels(`messageUpdated All Mail labels +(\Sent) -(\Draft) =(\Sent)`)

		// Saved again under a new UID, then sent under another.
		d.write(u, gmailRoot+"Drafts", "note", time.Now())
		d.pass(time.Second)
		d.labels(`messageNew All Mail note new \Drafts (\Draft)`)
		d.ok(u.Expunge(d.t.Context(), gmailRoot+"Drafts", 2))
		d.pass(time.Second)
		d.labels(`messageUpdated All Mail labels +() -(\Draft) =()`)
		d.write(u, gmailRoot+"Sent Mail", "note.", time.Now())
		d.pass(time.Second)
		d.labels(`messageNew All Mail note. new \Sent (\Sent)`)
		d.gmailSettled(u)
	})
}

// Between All Mail, Trash and Spam messages move, and X-GM-MSGID says which.
func TestGmail_moves(t *testing.T) {
	for _, tt := range []struct {
		name  string
		moves bool
		days  int // age of the message, which is taken in silently when it is old
		to    string
		there []string // events of the way there, by what is left of the paths
		back  []string
	}{
		{
			"to the trash, a pair", false, 0, "Trash",
			[]string{`messageDeleted All Mail (\Inbox) ~ Trash certain gmailMessageId`, `messageNew Trash a moved \Trash () ~ All Mail certain gmailMessageId`},
			[]string{`messageDeleted Trash ~ All Mail certain gmailMessageId`, `messageNew All Mail a moved \Inbox (\Inbox) ~ Trash certain gmailMessageId`},
		},
		{
			"to the trash, one event", true, 0, "Trash",
			[]string{"messageMoved Trash () from All Mail gmailMessageId"},
			[]string{`messageMoved All Mail (\Inbox) from Trash gmailMessageId`},
		},
		{
			"to spam, old", true, 90, "Spam",
			[]string{"messageMoved Spam () from All Mail gmailMessageId"},
			[]string{`messageMoved All Mail (\Inbox) from Spam gmailMessageId`},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			gmailed(t, func(d *den, u *imaptest.ModelUser, _ *knife) {
				ctx := d.t.Context()
				d.set(map[string]any{"notifyMoves": tt.moves})
				if tt.days > 0 {
					d.write(u, "INBOX", "a", time.Now().Add(-time.Duration(tt.days)*24*time.Hour))
				}
				d.gmailUp()
				if tt.days == 0 {
					d.write(u, "INBOX", "a", time.Now())
					d.pass(3 * time.Second)
					d.labels(`messageNew All Mail a new \Inbox (\Inbox) seemsLikeNew`)
				}
				d.ok(u.Move(ctx, allMail, gmailRoot+tt.to, 1))
				d.look()
				d.labels(tt.there...)
				d.ok(u.Move(ctx, gmailRoot+tt.to, "INBOX", 1))
				d.look()
				d.labels(tt.back...)
				d.gmailSettled(u)
			})
		})
	}
}

// What happened while nobody looked is told afterwards, labels too.
func TestGmail_restart(t *testing.T) {
	gmailed(t, func(d *den, u *imaptest.ModelUser, _ *knife) {
		ctx := d.t.Context()
		now := time.Now()
		for _, s := range []string{"a", "b", "c", "d"} {
			d.write(u, "INBOX", s, now.Add(-90*24*time.Hour))
		}
		d.gmailUp()
		d.gmailSettled(u)
		d.down()
		d.ok(u.Label(ctx, allMail, []uint32{1, 2}, []string{"Work"}, []string{`\Inbox`}))
		d.ok(u.Move(ctx, allMail, gmailRoot+"Trash", 3))
		d.ok(u.AddFlags(ctx, allMail, []uint32{2, 4}, `\Flagged`))
		d.write(u, "INBOX", "e", time.Now())
		d.up()
		d.look()
		d.labels(
			`messageNew All Mail e new \Inbox (\Inbox) seemsLikeNew`,
			`messageUpdated All Mail labels +(Work) -(\Inbox) =(Work)`,
			`messageUpdated All Mail flags +(\Flagged) -() =(\Flagged) labels +(Work) -(\Inbox) =(Work)`,
			`messageUpdated All Mail flags +(\Flagged) -() =(\Flagged)`,
			`messageDeleted All Mail (\Inbox) ~ Trash certain gmailMessageId`,
			`messageNew Trash c moved \Trash () ~ All Mail certain gmailMessageId`,
		)
		d.gmailSettled(u)
	})
}

// Under a new UIDVALIDITY labels are taken in with the messages.
func TestGmail_reset(t *testing.T) {
	gmailed(t, func(d *den, u *imaptest.ModelUser, _ *knife) {
		d.gmailUp()
		d.write(u, "INBOX", "a", time.Now())
		d.pass(time.Second)
		d.labels(`messageNew All Mail a new \Inbox (\Inbox) seemsLikeNew`)
		d.ok(u.ResetUIDValidity(d.t.Context(), allMail))
		d.pass(time.Minute)
		d.labels("mailboxReset All Mail")
		d.ok(u.Label(d.t.Context(), allMail, []uint32{1}, []string{"Work"}, nil))
		d.pass(time.Minute)
		d.labels(`messageUpdated All Mail labels +(Work) -() =(Work, \Inbox)`)
		d.gmailSettled(u)
	})
}

// The connection is cut anywhere: labels come out as they are.
func TestGmail_cut(t *testing.T) {
	story := func(d *den, u *imaptest.ModelUser) {
		ctx := d.t.Context()
		for _, s := range []string{"a", "b", "c"} {
			d.write(u, "INBOX", s, time.Now().Add(-48*time.Hour))
		}
		d.up()
		d.pass(time.Second)
		d.write(u, "INBOX", "d", time.Now())
		d.ok(u.Label(ctx, allMail, []uint32{1, 2}, []string{"Work"}, []string{`\Inbox`}))
		d.pass(time.Second)
		d.ok(u.AddFlags(ctx, allMail, []uint32{1, 4}, `\Seen`))
		d.ok(u.Label(ctx, allMail, []uint32{1}, nil, []string{"Work"}))
		d.ok(u.Move(ctx, allMail, gmailRoot+"Trash", 2))
		d.pass(3 * time.Second)
		d.ok(u.Move(ctx, gmailRoot+"Trash", "INBOX", 1))
		d.pass(3 * time.Second)
	}
	eachCut(t, 6, []imaptest.Dialect{imaptest.T0()}, story, func(d *den, u *imaptest.ModelUser, _ *knife) {
		story(d, u)
		d.pass(10 * time.Minute)
		d.gmailAgrees(u)
	})
}

// Labels that HIGHESTMODSEQ does not tell of are found by the audit.
func TestGmail_audit(t *testing.T) {
	gmailed(t, func(d *den, u *imaptest.ModelUser, _ *knife) {
		d.write(u, "INBOX", "a", time.Now().Add(-90*24*time.Hour))
		first := map[string]uint64{}
		u.Lie(func(l *imaptest.Lies) {
			l.HighestModSeq = func(folder string, truth uint64) uint64 {
				if first[folder] == 0 {
					first[folder] = truth
				}
				return first[folder]
			}
		})
		d.gmailUp()
		d.down()
		d.ok(u.Label(d.t.Context(), allMail, []uint32{1}, []string{"Work"}, nil))
		d.up()
		d.pass(10 * time.Second)
		d.labels()
		d.down()
		d.pass(2 * time.Hour) // of silence: all folders are audited
		d.up()
		d.pass(10 * time.Second)
		d.labels(`messageUpdated All Mail labels +(Work) -() =(Work, \Inbox)`)
		d.gmailSettled(u)
	})
}

// unlabelled is a session whose answers to CHANGEDSINCE have no labels.
type unlabelled struct{ Session }

func (s unlabelled) Changed(ctx context.Context, upTo uint32, since uint64, vanished bool) (Delta, error) {
	d, err := s.Session.Changed(ctx, upTo, since, vanished)
	for i := range d.Flags {
		d.Flags[i].ObjectIDs = ObjectIDs{}
	}
	return d, err
}

// Labels that were not told are asked for again, and are not "no labels".
func TestGmail_answer_without_labels(t *testing.T) {
	gmailed(t, func(d *den, u *imaptest.ModelUser, _ *knife) {
		dial := d.dial
		d.dial = func(ctx context.Context, a store.Account) (Session, error) {
			s, err := dial(ctx, a)
			if err != nil {
				return nil, err
			}
			return unlabelled{s}, nil
		}
		d.write(u, "INBOX", "a", time.Now().Add(-90*24*time.Hour))
		d.gmailUp()
		d.ok(u.AddFlags(d.t.Context(), allMail, []uint32{1}, `\Seen`))
		d.pass(time.Second)
		d.labels(`messageUpdated All Mail flags +(\Seen) -() =(\Seen)`)
		d.ok(u.Label(d.t.Context(), allMail, []uint32{1}, []string{"Work"}, nil))
		d.pass(time.Second)
		d.labels(`messageUpdated All Mail labels +(Work) -() =(Work, \Inbox)`)
		d.ok(u.Label(d.t.Context(), allMail, []uint32{1}, nil, []string{"Work"}))
		d.pass(time.Second)
		d.labels(`messageUpdated All Mail labels +() -(Work) =(\Inbox)`)
		d.gmailSettled(u)
	})
}

// hiding is a session in whose folder list some folders are not to be seen.
type hiding struct {
	Session
	hidden string
}

func (h hiding) Folders(ctx context.Context) (Listing, error) {
	l, err := h.Session.Folders(ctx)
	l.Folders = slices.DeleteFunc(l.Folders, func(f Listed) bool { return f.Path == h.hidden })
	return l, err
}

// Where All Mail cannot be seen, folders are folders, and the plan says so.
func TestGmail_all_mail_is_hidden(t *testing.T) {
	modelled(t, imaptest.T0(), func(d *den, u *imaptest.ModelUser, _ *knife) {
		dial := d.dial
		d.dial = func(ctx context.Context, a store.Account) (Session, error) {
			s, err := dial(ctx, a)
			if err != nil {
				return nil, err
			}
			return hiding{s, allMail}, nil
		}
		d.ok(u.CreateFolder(d.t.Context(), "Work"))
		d.up()
		d.pass(3 * time.Second)
		d.labels("accountAdded", "authenticationSuccess", "mailboxNew INBOX", "mailboxNew Sent Mail", "mailboxNew Drafts", "mailboxNew Spam",
			"mailboxNew Trash", "mailboxNew Work", "accountInitialized")
		d.planHas("INBOX: live (IDLE)")
		d.planHas("because All Mail is not shown to IMAP")
		d.write(u, "INBOX", "a", time.Now())
		d.pass(time.Second)
		d.labels(`messageNew INBOX a new \Inbox () seemsLikeNew`)
		d.ok(u.Label(d.t.Context(), allMail, []uint32{1}, []string{"Work"}, nil))
		d.look()
		d.labels(`messageUpdated INBOX labels +(Work) -() =(Work)`, `messageNew Work a copied \Inbox (\Inbox)`)
	})
}

// An account that names folders gets those, as folders; one that names All Mail, labels.
func TestGmail_paths(t *testing.T) {
	for _, tt := range []struct {
		paths  []string
		want   []string // path, and how it is watched
		labels bool
	}{
		{[]string{"INBOX"}, []string{"INBOX idle"}, false},
		{[]string{"INBOX", "*"}, []string{"All Mail poll", "Drafts poll", "INBOX idle", "Sent Mail poll", "Spam poll", "Trash poll"}, false},
		{[]string{allMail}, []string{"All Mail idle"}, true},
		{[]string{"Nowhere", allMail, gmailRoot + "Trash"}, []string{"All Mail idle", "Trash poll"}, true},
		{[]string{allMail, "*"}, []string{"All Mail idle", "Spam poll", "Trash poll"}, true},
	} {
		t.Run(strings.Join(tt.paths, ","), func(t *testing.T) {
			gmailed(t, func(d *den, u *imaptest.ModelUser, _ *knife) {
				_, err := d.st.UpdateAccount(d.t.Context(), denAccount, 0, func(a *store.Account) error {
					a.Paths = tt.paths
					return nil
				})
				d.ok(err)
				d.up()
				d.pass(3 * time.Second)
				folders, _, err := d.st.Folders(d.t.Context(), denAccount)
				d.ok(err)
				var got []string
				for _, f := range folders {
					if f.Watched != watchedNo {
						got = append(got, strings.TrimPrefix(f.Path, gmailRoot)+" "+f.Watched)
					}
				}
				slices.Sort(got)
				if diff := cmp.Diff(tt.want, got); diff != "" {
					d.t.Errorf("watched (-want +got):\n%s", diff)
				}
				plan := "labels: watched as folders, as the account's path asks"
				if tt.labels {
					plan = "labels: a message is watched once"
				}
				d.planHas(plan)
			})
		})
	}
}

// A server that has X-GM-EXT-1 and refuses what is asked of it is watched without labels.
func TestGmail_labels_refused(t *testing.T) {
	gmailed(t, func(d *den, u *imaptest.ModelUser, k *knife) {
		k.model.Hook(func(c imaptest.ModelCommand) imaptest.Act {
			if strings.Contains(c.Args, "X-GM-") {
				return imaptest.Act{Instead: true, Send: "{tag} BAD unknown item\r\n"}
			}
			return imaptest.Act{}
		})
		d.gmailUp()
		d.write(u, "INBOX", "a", time.Now())
		d.pass(time.Second)
		d.labels(`messageNew All Mail a new \All seemsLikeNew`)
		d.ok(u.AddFlags(d.t.Context(), allMail, []uint32{1}, `\Seen`))
		d.look()
		d.labels(`messageUpdated All Mail flags +(\Seen) -() =(\Seen)`)
	})
}

func TestRoleOf(t *testing.T) {
	for _, tt := range []struct {
		folder string
		labels []string // nil: not told
		want   string
	}{
		{RoleInbox, nil, RoleInbox},
		{RoleAll, nil, RoleAll},
		{RoleAll, []string{}, ""},
		{RoleAll, []string{"Work", `\Important`}, ""},
		{RoleArchive, []string{}, RoleArchive}, // so the account calls All Mail
		{RoleAll, []string{`\Inbox`, `\Sent`}, RoleSent},
		{RoleAll, []string{`\Draft`, `\Inbox`}, RoleDrafts},
		{RoleAll, []string{`\Inbox`, `\Spam`}, RoleJunk},
		{RoleAll, []string{`Inbox`, `Trash`}, ""}, // names
		{RoleTrash, []string{`\Inbox`}, RoleTrash},
		{RoleInbox, []string{}, RoleInbox},
		{RoleFlagged, []string{"x"}, RoleFlagged},
	} {
		m := &Message{ObjectIDs: ObjectIDs{Labels: tt.labels, HasLabels: tt.labels != nil}}
		if got := roleOf(m, tt.folder); got != tt.want {
			t.Errorf("labels %q in %s: %q, want %q", tt.labels, tt.folder, got, tt.want)
		}
	}
}

// A push for a message, which has no labels, takes none away from what was answered.
func TestLastFlags_keeps_labels(t *testing.T) {
	labels := ObjectIDs{Labels: []string{`\Inbox`}, HasLabels: true}
	got := lastFlags([]FlagsOf{
		{UID: 7, Flags: []string{`\Seen`}, Known: true, ObjectIDs: labels},
		{UID: 3, Flags: []string{}, Known: true},
		{UID: 7, Flags: []string{`\Flagged`}, Known: true},
		{UID: 3, ObjectIDs: labels},
	})
	want := []FlagsOf{
		{UID: 3, Flags: []string{}, Known: true, ObjectIDs: labels},
		{UID: 7, Flags: []string{`\Flagged`}, Known: true, ObjectIDs: labels},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

// A refusal of the moment is not one of labels.
func TestGmail_refusal_of_the_moment(t *testing.T) {
	for name, refused := range map[string]int{"once": 1, "whatever is asked": 4} {
		t.Run(name, func(t *testing.T) {
			gmailed(t, func(d *den, u *imaptest.ModelUser, k *knife) {
				d.gmailUp()
				left := refused
				k.model.Hook(func(c imaptest.ModelCommand) imaptest.Act {
					if c.Name != "UID FETCH" || left == 0 {
						return imaptest.Act{}
					}
					left--
					return imaptest.Act{Instead: true, Send: "{tag} BAD what?\r\n"}
				})
				d.write(u, "INBOX", "a", time.Now())
				d.pass(time.Minute)
				d.labels(`messageNew All Mail a new \Inbox (\Inbox) seemsLikeNew`)
				d.gmailSettled(u)
			})
		})
	}
}
