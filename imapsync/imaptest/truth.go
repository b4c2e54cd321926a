package imaptest

import (
	"bufio"
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode/utf16"
)

// truth speaks just enough IMAP to list folders and flags of a well-behaved server. It
// shares no code with what it judges.
type truth struct {
	c   net.Conn
	br  *bufio.Reader
	tag int
}

func login(c net.Conn, user, pass string) (*truth, error) {
	t := &truth{c: c, br: bufio.NewReader(c)}
	if _, err := t.line(); err != nil {
		return nil, fmt.Errorf("truth: greeting: %w", err)
	}
	_, err := t.do("LOGIN " + quoted(user) + " " + quoted(pass))
	return t, err
}

func readTruth(c net.Conn, user, pass string) (map[string]Folder, error) {
	t, err := login(c, user, pass)
	if err != nil {
		return nil, err
	}
	lines, err := t.do(`LIST "" "*"`)
	if err != nil {
		return nil, err
	}
	out := map[string]Folder{}
	for _, l := range lines {
		m := listLine.FindStringSubmatch(l)
		if m == nil {
			continue
		}
		if attrs := strings.ToLower(m[1]); strings.Contains(attrs, `\noselect`) || strings.Contains(attrs, `\nonexistent`) {
			continue
		}
		raw := unquoted(m[2])
		f, err := t.folder(raw)
		if err != nil {
			return nil, err
		}
		out[utf7Name(raw)] = f
	}
	_, _ = t.do("LOGOUT")
	return out, nil
}

var (
	listLine  = regexp.MustCompile(`(?is)^\* LIST \(([^)]*)\) (?:"(?:[^"\\]|\\.)*"|NIL) (.*)$`)
	fetchLine = regexp.MustCompile(`(?i)^\* \d+ FETCH \((.*)\)$`)
	uidItem   = regexp.MustCompile(`(?i)\bUID (\d+)`)
	flagItem  = regexp.MustCompile(`(?i)\bFLAGS \(([^)]*)\)`)
	codeItem  = regexp.MustCompile(`(?i)^\* OK \[(UIDVALIDITY|UIDNEXT) (\d+)\]`)
)

func (t *truth) folder(raw string) (Folder, error) {
	f := Folder{Messages: map[uint32][]string{}}
	lines, err := t.do("EXAMINE " + quoted(raw))
	if err != nil {
		return f, err
	}
	for _, l := range lines {
		if m := codeItem.FindStringSubmatch(l); m != nil {
			n, _ := strconv.ParseUint(m[2], 10, 32)
			if strings.EqualFold(m[1], "UIDNEXT") {
				f.UIDNext = uint32(n)
			} else {
				f.UIDValidity = uint32(n)
			}
		}
	}
	if lines, err = t.do("UID FETCH 1:* (UID FLAGS)"); err != nil {
		return f, err
	}
	for _, l := range lines {
		m := fetchLine.FindStringSubmatch(l)
		if m == nil {
			continue
		}
		uid, flags := uidItem.FindStringSubmatch(m[1]), flagItem.FindStringSubmatch(m[1])
		if uid == nil || flags == nil {
			return f, fmt.Errorf("truth: folder %q: cannot read %q", raw, l)
		}
		n, err := strconv.ParseUint(uid[1], 10, 32)
		if err != nil {
			return f, fmt.Errorf("truth: folder %q: %w", raw, err)
		}
		list := slices.DeleteFunc(strings.Fields(flags[1]), func(s string) bool { return strings.EqualFold(s, `\Recent`) })
		for i, flag := range list {
			// System flags have no case (RFC 3501 section 2.3.2); keywords keep theirs.
			if len(flag) > 1 && flag[0] == '\\' {
				list[i] = `\` + strings.ToUpper(flag[1:2]) + strings.ToLower(flag[2:])
			}
		}
		slices.Sort(list)
		f.Messages[uint32(n)] = list
	}
	return f, nil
}

// do sends a command and returns its untagged lines; anything but OK is an error.
func (t *truth) do(command string) ([]string, error) {
	t.tag++
	tag := "Z" + strconv.Itoa(t.tag)
	if _, err := io.WriteString(t.c, tag+" "+command+"\r\n"); err != nil {
		return nil, fmt.Errorf("truth: %w", err)
	}
	verb, _, _ := strings.Cut(command, " ")
	var lines []string
	for {
		l, err := t.line()
		if err != nil {
			return nil, fmt.Errorf("truth: %s: %w", verb, err)
		}
		rest, ok := strings.CutPrefix(l, tag+" ")
		switch {
		case !ok:
			lines = append(lines, l)
		case strings.HasPrefix(rest, "OK"):
			return lines, nil
		default:
			return nil, fmt.Errorf("truth: %s: %s", verb, rest)
		}
	}
}

// line reads a line; a literal in it becomes a quoted string.
func (t *truth) line() (string, error) {
	l, err := t.br.ReadString('\n')
	if err != nil {
		return "", err
	}
	l = strings.TrimRight(l, "\r\n")
	i := strings.LastIndexByte(l, '{')
	if i < 0 || !strings.HasSuffix(l, "}") {
		return l, nil
	}
	n, err := strconv.Atoi(l[i+1 : len(l)-1])
	if err != nil || n > 1<<20 {
		return l, nil
	}
	lit := make([]byte, n)
	if _, err := io.ReadFull(t.br, lit); err != nil {
		return "", err
	}
	rest, err := t.line()
	return l[:i] + quoted(string(lit)) + rest, err
}

func quoted(s string) string {
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(s) + `"`
}

func unquoted(s string) string {
	if len(s) < 2 || s[0] != '"' || s[len(s)-1] != '"' {
		return s
	}
	s = s[1 : len(s)-1]
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+1 < len(s) {
			i++
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

// utf7Name decodes modified UTF-7 (RFC 3501 section 5.1.3); what is none stays as it is.
func utf7Name(s string) string {
	var b strings.Builder
	for s != "" {
		before, rest, ok := strings.Cut(s, "&")
		b.WriteString(before)
		if !ok {
			break
		}
		in, after, ok := strings.Cut(rest, "-")
		if !ok {
			b.WriteString("&" + rest)
			break
		}
		s = after
		if in == "" {
			b.WriteByte('&')
			continue
		}
		raw, err := base64.RawStdEncoding.DecodeString(strings.ReplaceAll(in, ",", "/"))
		if err != nil || len(raw)%2 != 0 {
			b.WriteString("&" + in + "-")
			continue
		}
		units := make([]uint16, len(raw)/2)
		for i := range units {
			units[i] = uint16(raw[2*i])<<8 | uint16(raw[2*i+1])
		}
		b.WriteString(string(utf16.Decode(units)))
	}
	return b.String()
}
