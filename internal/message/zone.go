package message

import (
	"strconv"
	"strings"
	"time"
)

// zone is a VTIMEZONE: the offsets of a time zone as the calendar's maker knew them.
// Makers give their zones names that no database has, so what they say goes first.
type zone struct{ rules []rule }

// rule is a STANDARD or DAYLIGHT: an offset and when it begins.
type rule struct {
	daylight bool
	begin    time.Time // DTSTART, local
	until    time.Time
	offset   time.Duration
	month    time.Month // of a yearly recurrence; 0 = none
	nth      int        // the n-th weekday of the month; negative from its end
	weekday  time.Weekday
}

func (r *rule) take(p property) {
	switch p.name {
	case "DTSTART":
		r.begin, _ = time.Parse("20060102T150405", strings.TrimSuffix(strings.ToUpper(p.value), "Z"))
	case "TZOFFSETTO":
		r.offset = utcOffset(p.value)
	case "RRULE":
		r.recur(p.value)
	}
}

// recur reads FREQ=YEARLY;BYMONTH=3;BYDAY=-1SU, which is how clocks are changed.
func (r *rule) recur(s string) {
	if len(s) > 500 {
		return
	}
	days := map[string]time.Weekday{"SU": 0, "MO": 1, "TU": 2, "WE": 3, "TH": 4, "FR": 5, "SA": 6}
	for part := range strings.SplitSeq(strings.ToUpper(s), ";") {
		switch name, v, _ := strings.Cut(part, "="); name {
		case "BYMONTH":
			if n, err := strconv.Atoi(v); err == nil && n >= 1 && n <= 12 {
				r.month = time.Month(n)
			}
		case "BYDAY":
			if len(v) < 3 {
				continue
			}
			n, err := strconv.Atoi(v[:len(v)-2])
			day, ok := days[v[len(v)-2:]]
			if err == nil && ok && n != 0 && n >= -5 && n <= 5 {
				r.nth, r.weekday = n, day
			}
		case "UNTIL":
			r.until, _ = time.Parse("20060102", v[:min(len(v), 8)])
		}
	}
}

// last is when the rule last began at or before a local time; zero: not yet.
func (r *rule) last(at time.Time) time.Time {
	if at.Before(r.begin) {
		return time.Time{}
	}
	if r.month == 0 || r.nth == 0 {
		return r.begin
	}
	for year := at.Year(); year >= at.Year()-1; year-- {
		t := r.onset(year)
		if !t.After(at) && !t.Before(r.begin) && (r.until.IsZero() || t.Before(r.until.AddDate(0, 0, 2))) {
			return t
		}
	}
	return r.begin
}

// onset is when the rule begins in a year.
func (r *rule) onset(year int) time.Time {
	hour, minute, second := r.begin.Clock()
	first := time.Date(year, r.month, 1, hour, minute, second, 0, time.UTC)
	if r.nth > 0 {
		ahead := (int(r.weekday) - int(first.Weekday()) + 7) % 7
		return first.AddDate(0, 0, ahead+7*(r.nth-1))
	}
	end := first.AddDate(0, 1, -1)
	back := (int(end.Weekday()) - int(r.weekday) + 7) % 7
	return end.AddDate(0, 0, -back+7*(r.nth+1))
}

// offset is what a local time is ahead of UTC.
func (z *zone) offset(at time.Time) time.Duration {
	best := &z.rules[0]
	var since time.Time
	for i := range z.rules {
		r := &z.rules[i]
		if t := r.last(at); !t.IsZero() && t.After(since) {
			best, since = r, t
		}
	}
	if since.IsZero() { // before all of them: winter
		for i := range z.rules {
			if !z.rules[i].daylight {
				return z.rules[i].offset
			}
		}
	}
	return best.offset
}

// utcOffset reads +0100 or -053000.
func utcOffset(s string) time.Duration {
	if len(s) != 5 && len(s) != 7 {
		return 0
	}
	n, err := strconv.Atoi(s[1:])
	if err != nil || n < 0 {
		return 0
	}
	if len(s) == 5 {
		n *= 100
	}
	d := time.Duration(n/10000)*time.Hour + time.Duration(n/100%100)*time.Minute + time.Duration(n%100)*time.Second
	if s[0] == '-' {
		return -d
	}
	return d
}
