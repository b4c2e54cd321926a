package message

import (
	"fmt"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

const invitation = "BEGIN:VCALENDAR\r\nMETHOD:request\r\n" +
	"BEGIN:VTIMEZONE\r\nTZID:W. Europe Standard Time\r\n" +
	"BEGIN:STANDARD\r\nDTSTART:16010101T030000\r\nTZOFFSETFROM:+0200\r\nTZOFFSETTO:+0100\r\nRRULE:FREQ=YEARLY;BYDAY=-1SU;BYMONTH=10\r\nEND:STANDARD\r\n" +
	"BEGIN:DAYLIGHT\r\nDTSTART:16010101T020000\r\nTZOFFSETFROM:+0100\r\nTZOFFSETTO:+0200\r\nRRULE:FREQ=YEARLY;BYDAY=-1SU;BYMONTH=3\r\nEND:DAYLIGHT\r\n" +
	"END:VTIMEZONE\r\n" +
	"BEGIN:VEVENT\r\nUID:1@example.com\r\nSUMMARY:Plan\\, then\r\n  do\r\nDESCRIPTION:a\\nb\r\n" +
	"ORGANIZER;CN=\"Jo: x\":MAILTO:jo@example.com\r\n" +
	"DTSTART;TZID=\"W. Europe Standard Time\":20260701T090000\r\nDTEND;TZID=W. Europe Standard Time:20260701T100000\r\nEND:VEVENT\r\n" +
	"END:VCALENDAR\r\n"

func TestCalendar(t *testing.T) {
	at := func(s string) time.Time {
		d, err := time.Parse(time.RFC3339, s)
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	got := ParseCalendar([]byte(invitation), nil)
	want := Calendar{Method: "REQUEST", Events: []Event{{
		UID: "1@example.com", Summary: "Plan, then do", Description: "a\nb", Timezone: "W. Europe Standard Time",
		Start: at("2026-07-01T07:00:00Z"), End: at("2026-07-01T08:00:00Z"), Organizer: "jo@example.com",
	}}}
	if d := cmp.Diff(want, got, cmpopts.IgnoreUnexported(Event{})); d != "" {
		t.Error(d)
	}
	for in, want := range map[string]string{
		"DTSTART:20260101T120000Z\nDURATION:PT1H30M":                  "2026-01-01T12:00:00Z 2026-01-01T13:30:00Z UTC",
		"DTSTART;VALUE=DATE:20260101":                                 "2026-01-01T00:00:00Z 2026-01-02T00:00:00Z ",
		"DTSTART;VALUE=DATE:20260101\nDTEND;VALUE=DATE:20260103":      "2026-01-01T00:00:00Z 2026-01-03T00:00:00Z ",
		"DTSTART;TZID=Europe/Berlin:20260101T120000":                  "2026-01-01T11:00:00Z 0001-01-01T00:00:00Z Europe/Berlin",
		"DTSTART;TZID=America/New_York:20260701T120000\nDURATION:P1D": "2026-07-01T16:00:00Z 2026-07-02T16:00:00Z America/New_York",
		"DTSTART:20260101T120000":                                     "0001-01-01T00:00:00Z 0001-01-01T00:00:00Z ",
		"DTSTART;TZID=Nowhere/Real:20260101T120000":                   "0001-01-01T00:00:00Z 0001-01-01T00:00:00Z Nowhere/Real",
		"DTSTART;TZID=../../etc/passwd:20260101T120000":               "0001-01-01T00:00:00Z 0001-01-01T00:00:00Z ../../etc/passwd",
		"DTSTART;TZID=Local:20260101T120000":                          "0001-01-01T00:00:00Z 0001-01-01T00:00:00Z Local",
		"DTSTART;TZID=/:20260101T120000":                              "0001-01-01T00:00:00Z 0001-01-01T00:00:00Z /",
		"DTSTART;TZID=a\x00b:20260101T120000":                         "0001-01-01T00:00:00Z 0001-01-01T00:00:00Z ab",
		"DTSTART:20260101T120000Z\nDURATION:P1000000W":                "2026-01-01T12:00:00Z 0001-01-01T00:00:00Z UTC",
		"DTSTART:99991231T120000Z\nDURATION:P1D":                      "9999-12-31T12:00:00Z 0001-01-01T00:00:00Z UTC",
		"DTSTART:soon":                                                "0001-01-01T00:00:00Z 0001-01-01T00:00:00Z ",
		"DTSTART:20260101T120000Z\nDTSTART:20270101T120000Z\nDTEND:x": "2026-01-01T12:00:00Z 0001-01-01T00:00:00Z UTC",
	} {
		c := ParseCalendar([]byte("BEGIN:VCALENDAR\nBEGIN:VEVENT\nUID:x\n"+in+"\nEND:VEVENT\nEND:VCALENDAR\n"), nil)
		if len(c.Events) != 1 {
			t.Errorf("%q: %d events", in, len(c.Events))
			continue
		}
		e := c.Events[0]
		if got := fmt.Sprintf("%s %s %s", e.Start.Format(time.RFC3339), e.End.Format(time.RFC3339), e.Timezone); got != want {
			t.Errorf("%q: %s, want %s", in, got, want)
		}
	}
}

// TestClockChanges compares what a VTIMEZONE says with the database, hour by hour.
func TestClockChanges(t *testing.T) {
	berlin, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		t.Skip(err)
	}
	for h := time.Date(2026, 1, 1, 0, 30, 0, 0, time.UTC); h.Year() < 2028; h = h.Add(time.Hour) {
		local := h.In(berlin)
		s := strings.ReplaceAll(invitation, "20260701T090000", local.Format("20060102T150405"))
		got := ParseCalendar([]byte(s), nil).Events[0].Start
		_, before := h.Add(-2 * time.Hour).In(berlin).Zone()
		_, after := h.Add(2 * time.Hour).In(berlin).Zone()
		if before == after && !got.Equal(h) { // around the change a local time may be two moments
			t.Fatalf("%s is %s, want %s", local, got, h)
		}
	}
}

func TestCalendarOccurrences(t *testing.T) {
	c := ParseCalendar([]byte("BEGIN:VEVENT\nUID:1\nRECURRENCE-ID:20260102T000000Z\nSUMMARY:moved\nEND:VEVENT\nBEGIN:VEVENT\nUID:1\nSUMMARY:series\nEND:VEVENT\nBEGIN:VEVENT\nUID:2\nSUMMARY:open\nBEGIN:VALARM\nSUMMARY:alarm\nEND:VALARM\n"), nil)
	var got []string
	for _, e := range c.Events {
		got = append(got, e.UID+" "+e.Summary)
	}
	if d := cmp.Diff([]string{"1 series", "2 open"}, got); d != "" {
		t.Error(d)
	}
	var many strings.Builder
	for i := range 10_000 {
		fmt.Fprintf(&many, "BEGIN:VEVENT\nUID:%d\nEND:VEVENT\n", i)
	}
	if c := ParseCalendar([]byte(many.String()), nil); len(c.Events) != MaxEvents || !c.Cut {
		t.Errorf("%d events, cut %v", len(c.Events), c.Cut)
	}
}

// TestCalendarLines: lines are folded and cut anywhere, also inside a character.
func TestCalendarLines(t *testing.T) {
	c := ParseCalendar([]byte("METHOD:x\nBEGIN:VCALENDAR\nMETHOD:"+strings.Repeat("\u00fc", 40_000)+"\nBEGIN:VEVENT\nSUMMARY:gr\xc3\r\n \xbcn\nEND:VEVENT\n"), nil)
	if c.Events[0].Summary != "gr\u00fcn" || len(c.Method) > maxMethod || !utf8.ValidString(c.Method) {
		t.Errorf("%q, %d bytes of method", c.Events[0].Summary, len(c.Method))
	}
}

func FuzzCalendar(f *testing.F) {
	f.Add([]byte(invitation))
	f.Add([]byte("BEGIN:VEVENT\nDTSTART;TZID=\"a:b:20260101T000000\nEND:VTIMEZONE\nEND:VEVENT\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		c := ParseCalendar(b, nil)
		if len(c.Events) > MaxEvents {
			t.Errorf("%d events", len(c.Events))
		}
		for _, e := range c.Events {
			for _, s := range []string{e.UID, e.Summary, e.Description, e.Timezone, e.Organizer, c.Method} {
				if !utf8.ValidString(s) || strings.Contains(s, "\x00") || len(s) > maxCalendarLine {
					t.Errorf("%q", s)
				}
			}
		}
	})
}
