package message

import (
	"net/mail"
	"strings"
	"time"
)

// oddDates are forms of Date that RFC 5322 does not have and mailers send.
var oddDates = []string{
	time.RFC3339, "2006-01-02 15:04:05 -0700", "2006-01-02 15:04:05", time.ANSIC, time.UnixDate,
	"Mon, 2 Jan 2006 15:04:05", "2 Jan 2006 15:04:05", "Mon, 2 Jan 2006 15:04:05 -07:00", "Mon, 2-Jan-2006 15:04:05 -0700",
}

// Date reads a Date header; false where it is none, or before 1970. Without a zone it
// is UTC.
func Date(s string) (time.Time, bool) {
	if s = strings.TrimSpace(s); len(s) > 200 {
		return time.Time{}, false
	}
	t, err := mail.ParseDate(s)
	for i := 0; err != nil && i < len(oddDates); i++ {
		t, err = time.Parse(oddDates[i], s)
	}
	return t, err == nil && t.Unix() > 0 && t.Year() < 10_000
}
