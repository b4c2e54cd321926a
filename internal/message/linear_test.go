package message

import (
	"strings"
	"testing"
	"time"
)

// TestTimeIsLinear: time grows as the size does, whatever is in it.
func TestTimeIsLinear(t *testing.T) {
	try := func(name string, size int, f func(n int) func()) {
		t.Run(name, func(t *testing.T) {
			// One of eight times the size against eight: as long, if it is linear, so that
			// what else the machine does falls on both; eight times as long, if it is square.
			one, large := f(size/8), f(size)
			eight, single := time.Hour, time.Hour
			var ratio float64
			for range 10 {
				eight, single = min(eight, took(8, one)), min(single, took(1, large))
				if ratio = float64(single) / float64(eight); ratio <= 2.5 || single < 3*time.Millisecond {
					return
				}
			}
			t.Errorf("eight times the size takes %.1f times the time", 8*ratio)
		})
	}
	for name, make := range hostile {
		try("mail: "+name, 1<<20, func(n int) func() { raw := make(n); return func() { read(raw, 1<<20) } })
	}
	for name, text := range map[string]string{
		"words": "=?utf-8?q?=C3=BC?= ", "begun words": "=?utf-8?q?", "odd words": "=?x=?=?", "unknown words": "=?x-no?b?aaaa?= ",
	} {
		try("words: "+name, 256<<10, func(n int) func() { s := strings.Repeat(text, n/len(text)); return func() { Words(s, nil) } })
	}
	for name, text := range map[string]string{
		"many": "a <a@b>, ", "quotes": `"`, "comments": "(", "angles": "<", "groups": "g:", "escapes": `\`, "closed comments": "()", "words": "a ",
	} {
		try("addresses: "+name, 256<<10, func(n int) func() { s := strings.Repeat(text, n/len(text)); return func() { Addresses(s, nil) } })
	}
	for name, text := range map[string]string{
		"div": "<div>", "stray ends": "</p>", "mixed": "<b><i></b></i>", "attributes": `<a href="http://x" `, "comments": "<!--", "less than": "<",
		"styles": `<p style="color:red;`, "tables": "<table><tr><td>", "references": "&amp", "raw": "<script>", "quotes": `<a title="`,
	} {
		try("html: "+name, 256<<10, func(n int) func() { s := strings.Repeat(text, n/len(text)); return func() { WebSafe(s, 1<<20) } })
	}
	for name, text := range map[string]string{
		"begins": "BEGIN:VEVENT\r\n", "folds": "SUMMARY:x\r\n y\r\n", "events": "BEGIN:VEVENT\r\nUID:1\r\nEND:VEVENT\r\n", "fold only": " x\r\n",
		"params": "DTSTART;A=B;C=D:x\r\n", "ends": "END:VEVENT\r\n", "zones": "BEGIN:VTIMEZONE\r\nTZID:x\r\nBEGIN:STANDARD\r\nEND:STANDARD\r\n",
	} {
		try("calendar: "+name, 256<<10, func(n int) func() {
			b := []byte(strings.Repeat(text, n/len(text)))
			return func() { ParseCalendar(b, nil) }
		})
	}
}

func took(times int, f func()) time.Duration {
	began := time.Now()
	for range times {
		f()
	}
	return time.Since(began)
}
