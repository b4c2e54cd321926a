package wire

import "time"

var months = [...]string{"JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC"}

// ParseInternalDate reads `01-Feb-2024 10:00:00 +0100` (RFC 3501 section 9: date-time),
// with one digit for the day too. Names of zones and years before 1900 are refused: what
// sends them sends no date.
func ParseInternalDate(b []byte) (time.Time, bool) {
	b = skipSpace(b)
	day, i := digits(b, 0)
	if i < 1 || i > 2 || day < 1 || day > 31 || len(b) != i+24 || b[i] != '-' || b[i+4] != '-' {
		return time.Time{}, false
	}
	month := 0
	for n, name := range months {
		if foldEqual(b[i+1:i+4], name) {
			month = n + 1
		}
	}
	two := func(at int) int {
		n, end := digits(b[:at+2], at)
		if end != at+2 {
			return -1
		}
		return int(n)
	}
	century, year := two(i+5), two(i+7)
	rest := b[i+9:] // ` hh:mm:ss +zzzz`
	if month == 0 || century < 19 || year < 0 || rest[0] != ' ' || rest[3] != ':' || rest[6] != ':' || rest[9] != ' ' {
		return time.Time{}, false
	}
	hour, minute, sec := two(i+10), two(i+13), two(i+16)
	zh, zm := two(i+20), two(i+22)
	if hour < 0 || hour > 23 || minute < 0 || minute > 59 || sec < 0 || sec > 60 || zh < 0 || zm < 0 || zh > 24 || zm > 59 {
		return time.Time{}, false
	}
	offset := zh*3600 + zm*60
	switch rest[10] {
	case '+':
	case '-':
		offset = -offset
	default:
		return time.Time{}, false
	}
	t := time.Date(century*100+year, time.Month(month), int(day), hour, minute, min(sec, 59), 0, zone(offset))
	return t, t.Day() == int(day)
}

// zone is UTC where it can be: a location per message is an allocation.
func zone(offset int) *time.Location {
	if offset == 0 {
		return time.UTC
	}
	return time.FixedZone("", offset)
}
