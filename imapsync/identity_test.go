package imapsync

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/postrider/postrider/events"
	"github.com/postrider/postrider/store"
)

// records reads a folder's state, by UID.
func (d *den) records(path string) map[uint32]store.Record {
	d.t.Helper()
	folders, _, err := d.st.Folders(d.t.Context(), denAccount)
	d.ok(err)
	out := map[uint32]store.Record{}
	for _, f := range folders {
		if f.Path != path {
			continue
		}
		meta, err := d.st.FolderMeta(d.t.Context(), denAccount, f.Num)
		d.ok(err)
		blocks, err := d.st.Blocks(d.t.Context(), denAccount, f.Num, meta)
		d.ok(err)
		for _, recs := range blocks {
			for _, r := range recs {
				out[r.UID] = r
			}
		}
	}
	return out
}

// set changes settings, which hold at once in this process.
func (d *den) set(values map[string]any) {
	d.t.Helper()
	raw := map[string]json.RawMessage{}
	for k, v := range values {
		b, err := json.Marshal(v)
		d.ok(err)
		raw[k] = b
	}
	_, err := d.st.UpdateSettings(d.t.Context(), raw)
	d.ok(err)
}

func TestWorker_keeps_the_ids_that_the_server_gives(t *testing.T) {
	for _, tt := range []struct {
		how     string
		email   bool
		message bool
	}{{store.IdentityAuto, true, false}, {store.IdentityFull, true, true}, {store.IdentityNone, false, false}} {
		t.Run(tt.how, func(t *testing.T) {
			bubble(t, true, func(d *den) {
				d.srv.objectID = true
				d.set(map[string]any{"storeIdentity": tt.how})
				old := d.srv.add("INBOX", "old", time.Now().Add(-48*time.Hour))
				d.started()
				young := d.srv.put("INBOX", "young")
				d.pass(time.Second)
				d.srv.flag("INBOX", old, `\Seen`)
				d.pass(time.Second)
				for _, uid := range []uint32{old, young} {
					r := d.records("INBOX")[uid]
					if (r.EmailID != "") != tt.email || (r.ThreadID != "") != tt.email {
						d.t.Errorf("UID %d: EMAILID %q, THREADID %q", uid, r.EmailID, r.ThreadID)
					}
					if (r.MessageID != "") != tt.message || (r.Print != 0) != tt.message {
						d.t.Errorf("UID %d: Message-ID %q, print %d", uid, r.MessageID, r.Print)
					}
				}
				for e, err := range d.st.Journal(d.t.Context(), denAccount, d.last) {
					d.ok(err)
					var p struct{ EmailID, ThreadID string }
					d.ok(json.Unmarshal(e.Data.(events.Raw), &p))
					if tell := tt.email || e.Type == events.MessageNewType; (p.EmailID != "") != tell || (p.ThreadID != "") != tell {
						d.t.Errorf("%s tells emailId %q, threadId %q", e.Type, p.EmailID, p.ThreadID)
					}
				}
			})
		})
	}
}
