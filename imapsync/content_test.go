package imapsync

import (
	"encoding/base64"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/postrider/postrider/events"
	"github.com/postrider/postrider/internal/message"
)

// mail is a message with its parts, as a server would give them.
type mail struct {
	root  *message.Part
	parts map[string]string
}

func (m mail) part(_ uint32, p PartWanted) ([]byte, error) {
	s, ok := m.parts[p.Section]
	if !ok || p.Offset > int64(len(s)) {
		return nil, nil
	}
	return []byte(s[p.Offset:min(int64(len(s)), p.Offset+p.Size)]), nil
}

func leaf(number, media, encoding, body string) *message.Part {
	return &message.Part{Number: number, Type: media, Encoding: encoding, Size: int64(len(body)), Params: map[string]string{"charset": "utf-8"}}
}

// letter is a text, its HTML, a file and an invitation.
func letter() mail {
	parts := map[string]string{
		"1": "Gr=C3=BC=C3=9Fe\r\n", "2": "<p onclick=x>Hallo</p>", "3": base64.StdEncoding.EncodeToString([]byte("file")),
		"4":      "BEGIN:VCALENDAR\r\nMETHOD:REQUEST\r\nBEGIN:VEVENT\r\nUID:u1\r\nSUMMARY:Lunch\r\nDTSTART:20261201T110000Z\r\nEND:VEVENT\r\nEND:VCALENDAR\r\n",
		"HEADER": "Subject: =?utf-8?q?J=C3=BC?=\r\nX-Team: a\r\nX-Team: b\r\n\r\n",
	}
	var raw strings.Builder
	raw.WriteString(parts["HEADER"][:len(parts["HEADER"])-2] + "Content-Type: multipart/mixed; boundary=b\r\n\r\n")
	for i, head := range []string{"text/plain; charset=utf-8\r\nContent-Transfer-Encoding: quoted-printable", "text/html", "application/pdf; name=a.pdf\r\nContent-Transfer-Encoding: base64", "text/calendar"} {
		raw.WriteString("--b\r\nContent-Type: " + head + "\r\n\r\n" + parts[strconv.Itoa(i+1)] + "\r\n")
	}
	parts[""] = raw.String() + "--b--\r\n"
	file := leaf("3", "application/pdf", "base64", parts["3"])
	file.Filename = "a.pdf"
	return mail{&message.Part{Type: "multipart/mixed", Children: []*message.Part{
		leaf("1", "text/plain", "quoted-printable", parts["1"]), leaf("2", "text/html", "", parts["2"]), file, leaf("4", "text/calendar", "", parts["4"]),
	}}, parts}
}

// announced are the messageNew events since the last call.
func (d *den) announced() []events.MessageNew {
	d.t.Helper()
	var out []events.MessageNew
	for e, err := range d.st.Journal(d.t.Context(), denAccount, d.last) {
		d.ok(err)
		d.last = e.Seq
		p, err := events.Decode(e)
		d.ok(err)
		if m, ok := p.(events.MessageNew); ok {
			out = append(out, m)
		}
	}
	return out
}

// arrives has one message arrive at an account with these settings, and gives its event.
func (d *den) arrives(m mail, settings map[string]any) events.MessageNew {
	d.t.Helper()
	if d.m == nil {
		d.started()
	}
	if settings != nil {
		d.set(settings)
		d.pass(6 * time.Second)
	}
	d.srv.act(func() {
		d.srv.structure, d.srv.parts = m.root, m.part
		d.srv.add("INBOX", "content", time.Now())
	})
	d.pass(5 * time.Second)
	got := d.announced()
	if len(got) != 1 {
		d.t.Fatalf("%d messages, want 1", len(got))
	}
	return got[0]
}

func TestContent(t *testing.T) {
	all := map[string]any{
		"notifyText": true, "notifyWebSafeHtml": true, "notifyHeaders": []string{"X-Team", "subject"}, "notifyAttachments": true,
		"notifyCalendarEvents": true, "notifySource": true,
	}
	inParts := maps.Clone(all) // each part is asked for by itself
	delete(inParts, "notifySource")
	at := events.TimeOf(time.Date(2026, 12, 1, 11, 0, 0, 0, time.UTC))
	t.Run("everything", func(t *testing.T) {
		bubble(t, true, func(d *den) {
			m := letter()
			e := d.arrives(m, all)
			text := events.Text{ID: e.Text.ID, EncodedSize: e.Text.EncodedSize, Plain: "Grüße\n", HTML: "<p>Hallo</p>", WebSafe: true}
			if diff := cmp.Diff(text, e.Text); diff != "" {
				d.t.Error(diff)
			}
			if diff := cmp.Diff(map[string][]string{"subject": {"Jü"}, "x-team": {"a", "b"}}, e.Headers); diff != "" {
				d.t.Error(diff)
			}
			if e.Attachments[0].Content != m.parts["3"] {
				d.t.Errorf("attachments = %+v", e.Attachments)
			}
			ics := base64.StdEncoding.EncodeToString([]byte(m.parts["4"]))
			want := []events.CalendarEvent{{
				EventID: "u1", Attachment: e.Attachments[1].ID, Method: "REQUEST", Summary: "Lunch", Timezone: "UTC", StartDate: &at,
				Filename: "invite.ics", ContentType: "text/calendar", Encoding: "base64", Content: ics,
			}}
			if diff := cmp.Diff(want, e.CalendarEvents); diff != "" {
				d.t.Error(diff)
			}
			if e.Source != base64.StdEncoding.EncodeToString([]byte(m.parts[""])) {
				d.t.Errorf("source = %q", e.Source)
			}
			if len(e.Truncated)+len(e.Incomplete)+len(e.DecodeWarnings) > 0 {
				d.t.Errorf("truncated %v, incomplete %v, warnings %v", e.Truncated, e.Incomplete, e.DecodeWarnings)
			}
		})
	})
	t.Run("nothing is asked for when nothing is wanted", func(t *testing.T) {
		bubble(t, true, func(d *den) {
			m := letter()
			asked := 0
			e := d.arrives(mail{m.root, nil}, nil)
			d.srv.act(func() { d.srv.parts = func(uint32, PartWanted) ([]byte, error) { asked++; return nil, nil } })
			d.srv.put("INBOX", "more")
			d.pass(5 * time.Second)
			if asked > 0 || e.Text.Plain+e.Source != "" || e.Headers != nil {
				d.t.Errorf("%d questions, %+v", asked, e)
			}
		})
	})
	t.Run("sizes", func(t *testing.T) {
		bubble(t, true, func(d *den) {
			m := letter()
			m.parts["1"] = strings.Repeat("=C3=BC", 100_000)
			m.root.Children[0].Size = int64(len(m.parts["1"]))
			m.parts["3"] = strings.Repeat("AAAA", 1000)
			m.root.Children[2].Size = 4000
			e := d.arrives(m, map[string]any{"notifyText": true, "notifyTextSize": 1001, "notifyAttachments": true, "notifyAttachmentSize": 1000})
			if e.Text.Plain != strings.Repeat("ü", 500) || !e.Text.HasMore {
				d.t.Errorf("%d bytes, more %v", len(e.Text.Plain), e.Text.HasMore)
			}
			if e.Attachments[0].Content != "" {
				d.t.Error("an attachment that is too large has content")
			}
			if diff := cmp.Diff([]string{"attachments.content"}, e.Truncated); diff != "" {
				d.t.Error(diff)
			}
		})
	})
	t.Run("sizes that lie", func(t *testing.T) {
		bubble(t, true, func(d *den) {
			m := letter()
			m.parts["1"], m.parts["3"] = strings.Repeat("x\r\n", 1<<17), strings.Repeat("AAAA", 1<<17)
			e := d.arrives(m, inParts)
			if len(e.Text.Plain) != 65536 || !e.Text.HasMore || e.Attachments[0].Content != "" {
				d.t.Errorf("%d bytes, more %v, content %d", len(e.Text.Plain), e.Text.HasMore, len(e.Attachments[0].Content))
			}
		})
	})
	t.Run("no structure", func(t *testing.T) {
		bubble(t, true, func(d *den) {
			raw := "Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\nhello\r\n--b\r\nContent-Type: application/pdf; name=a.pdf\r\n\r\nfile\r\n--b--\r\n"
			e := d.arrives(mail{nil, map[string]string{"": raw}}, map[string]any{"notifyText": true, "notifyAttachments": true})
			if e.Text.Plain != "hello" || len(e.Attachments) != 1 || e.Attachments[0].Content != "ZmlsZQ==" || e.Text.EncodedSize.Plain != 5 {
				d.t.Errorf("%+v %+v", e.Text, e.Attachments)
			}
		})
	})
	t.Run("more than there is memory for goes alone", func(t *testing.T) {
		bubble(t, true, func(d *den) {
			d.cfg.ContentMemory = 1000
			if e := d.arrives(letter(), all); e.Text.Plain == "" || e.Source == "" {
				d.t.Errorf("%+v", e.Text)
			}
			if !d.m.content.TryAcquire(1000) {
				d.t.Error("memory was not given back")
			}
		})
	})
	t.Run("a size that cannot be", func(t *testing.T) {
		bubble(t, true, func(d *den) {
			d.srv.size = math.MaxInt64
			most := int64(256 << 20)
			m := letter()
			give := m.part
			d.srv.parts = func(uid uint32, p PartWanted) ([]byte, error) {
				if d.m.content.TryAcquire(most) {
					d.t.Error("no memory is taken")
					d.m.content.Release(most)
				}
				return give(uid, p)
			}
			d.started()
			d.set(all)
			d.pass(6 * time.Second)
			d.srv.act(func() { d.srv.structure = nil })
			d.srv.put("INBOX", "huge")
			d.pass(5 * time.Second)
			if e := d.announced(); len(e) != 1 || e[0].Text.Plain == "" || !cmp.Equal(e[0].Truncated, []string{"source"}) {
				d.t.Errorf("%+v", e)
			}
		})
	})
	t.Run("a panic costs the content", func(t *testing.T) {
		bubble(t, true, func(d *den) {
			d.started()
			d.set(all)
			d.pass(6 * time.Second)
			d.srv.act(func() {
				d.srv.structure = letter().root
				d.srv.parts = func(uint32, PartWanted) ([]byte, error) { panic("planted") }
			})
			d.srv.put("INBOX", "odd")
			d.pass(20 * time.Minute)
			if e := d.announced(); len(e) != 1 || len(e[0].Incomplete) == 0 {
				d.t.Errorf("%+v", e)
			}
			if !d.m.content.TryAcquire(d.m.cfg.ContentMemory) {
				d.t.Error("memory was not given back")
			}
		})
	})
	t.Run("headers of a long message are whole", func(t *testing.T) {
		bubble(t, true, func(d *den) {
			m := letter()
			m.parts[""] += strings.Repeat("x\r\n", maxHeaders)
			if e := d.arrives(m, all); len(e.Truncated) > 0 || len(e.Headers) != 2 {
				d.t.Errorf("truncated %v, headers %v", e.Truncated, e.Headers)
			}
		})
	})
	t.Run("a calendar does not grow", func(t *testing.T) {
		bubble(t, true, func(d *den) {
			m := letter()
			m.parts["4"] = "BEGIN:VCALENDAR\nMETHOD:" + strings.Repeat("X", 60<<10) + "\n"
			for i := range message.MaxEvents {
				m.parts["4"] += "BEGIN:VEVENT\nUID:" + strconv.Itoa(i) + "\nEND:VEVENT\n"
			}
			m.root.Children[3].Filename = strings.Repeat("n", 10<<10)
			e := d.arrives(m, inParts)
			n := 0
			for _, c := range e.CalendarEvents {
				n += len(c.Method) + len(c.Filename)
			}
			if n == 0 || n > maxCalendars || !slices.Contains(e.Truncated, "calendarEvents") {
				d.t.Errorf("%d bytes of %d events, truncated %v", n, len(e.CalendarEvents), e.Truncated)
			}
		})
	})
	t.Run("memory that is taken is waited for", func(t *testing.T) {
		bubble(t, true, func(d *den) {
			d.started()
			d.set(all)
			m := letter()
			d.srv.act(func() { d.srv.structure, d.srv.parts = m.root, m.part })
			most := d.m.cfg.ContentMemory
			d.ok(d.m.content.Acquire(d.t.Context(), most))
			d.srv.put("INBOX", "waits")
			d.pass(time.Minute)
			if n := len(d.announced()); n > 0 {
				d.t.Errorf("%d messages are told without memory for them", n)
			}
			d.m.content.Release(most)
			d.pass(time.Second)
			if n := len(d.announced()); n != 1 {
				d.t.Errorf("%d messages are told, want 1", n)
			}
		})
	})
	t.Run("slow servers keep memory from nobody", func(t *testing.T) {
		for _, c := range []struct {
			slow    time.Duration
			crowded bool
			by      time.Duration // when it is told
			lost    bool
		}{
			{20 * time.Second, false, 25 * time.Second, false},
			{20 * time.Second, true, 40 * time.Second, true},
			{9 * time.Minute, false, 11 * time.Minute, true},
		} {
			bubble(t, true, func(d *den) {
				d.started()
				d.set(map[string]any{"notifyText": true})
				d.pass(6 * time.Second)
				m := letter()
				d.srv.act(func() { d.srv.structure, d.srv.parts, d.srv.slow = m.root, m.part, c.slow })
				most := d.m.cfg.ContentMemory
				if c.crowded {
					d.ok(d.m.content.slow.Acquire(d.t.Context(), most/4))
				}
				d.srv.put("INBOX", "slow")
				d.pass(11 * time.Second)
				if free := d.m.content.TryAcquire(most * 3 / 4); !free {
					d.t.Error("too much memory is held by a server that is slow")
				} else {
					d.m.content.Release(most * 3 / 4)
				}
				d.pass(c.by - 11*time.Second)
				if e := d.announced(); len(e) != 1 || (len(e[0].Incomplete) > 0) != c.lost {
					d.t.Errorf("%+v: %+v", c, e)
				}
				if !d.m.content.TryAcquire(most) || !c.crowded && !d.m.content.slow.TryAcquire(most/4) {
					d.t.Error("memory was not given back")
				}
			})
		}
	})
	t.Run("large source in pieces", func(t *testing.T) {
		bubble(t, true, func(d *den) {
			m := letter()
			m.parts[""] = strings.Repeat("0123456789abcdef", 5<<14) + "end"
			e := d.arrives(m, map[string]any{"notifySource": true, "notifySourceSize": 10485760})
			if got, _ := base64.StdEncoding.DecodeString(e.Source); string(got) != m.parts[""] {
				d.t.Errorf("%d bytes of source, want %d", len(got), len(m.parts[""]))
			}
			m.parts[""] = strings.Repeat("x", 1<<20+1)
			e = d.arrives(m, map[string]any{"notifySource": true, "notifySourceSize": 1048576})
			if e.Source != "" || !cmp.Equal(e.Truncated, []string{"source"}) {
				d.t.Errorf("%d bytes of source, truncated %v", len(e.Source), e.Truncated)
			}
		})
	})
	t.Run("a part that never comes", func(t *testing.T) {
		bubble(t, true, func(d *den) {
			m := letter()
			delete(m.parts, "2")
			e := d.arrives(m, inParts)
			if e.Text.Plain == "" || e.Text.HTML != "" || !cmp.Equal(e.Incomplete, []string{"text.html"}) {
				d.t.Errorf("%+v, incomplete %v", e.Text, e.Incomplete)
			}
		})
	})
	for name, err := range map[string]error{"refused": errFakeNo, "the connection ends": errFakeClosed} {
		t.Run("one message: "+name, func(t *testing.T) {
			bubble(t, true, func(d *den) {
				m := letter()
				d.started()
				d.set(all)
				d.pass(6 * time.Second)
				d.srv.act(func() {
					d.srv.structure = m.root
					d.srv.parts = func(uid uint32, p PartWanted) ([]byte, error) {
						if uid == 2 {
							return nil, err
						}
						return m.part(uid, p)
					}
				})
				for _, id := range []string{"a", "b", "c"} {
					d.srv.put("INBOX", id)
				}
				d.pass(20 * time.Minute)
				told := d.announced()
				if len(told) != 3 {
					d.t.Fatalf("%d messages are told, want 3", len(told))
				}
				for i, e := range told {
					if whole := e.Text.Plain != "" && len(e.Incomplete) == 0; whole != (i != 1) {
						d.t.Errorf("message %d: %q, incomplete %v", i, e.Text.Plain, e.Incomplete)
					}
				}
			})
		})
	}
}
