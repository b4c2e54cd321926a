package imapsync

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
)

// reply is the tagged answer to a command.
type reply struct {
	word, code, args, text string
	lines                  []string // untagged lines before it
	verb                   string
}

// err makes an *Error of a NO or BAD.
func (r reply) err(stage string) error {
	if r.word == "OK" {
		return nil
	}
	kind := ErrNo
	if r.word == "BAD" {
		kind = ErrBad
	}
	return &Error{Kind: kind, Stage: stage, Command: r.verb, Code: r.code, Text: r.text}
}

// command sends a verb with arguments as they are, then strs as quoted strings or
// literals, and reads up to the tagged reply.
func (g *greeter) command(stage, verb, args string, strs []string) (reply, error) {
	var parts []string // each but the last ends in a literal's size
	line := args
	for _, s := range strs {
		if line != "" {
			line += " "
		}
		if quotable(s) {
			line += quote(s)
			continue
		}
		parts = append(parts, line+"{"+strconv.Itoa(len(s))+"}")
		line = s
	}
	parts = append(parts, line)
	next := 1
	return g.exchange(stage, verb, parts[0], func(string) string {
		if next == len(parts) {
			return "*"
		}
		next++
		return parts[next-1]
	})
}

// exchange sends a command and reads up to its tagged reply; more answers a `+`.
func (g *greeter) exchange(stage, verb, args string, more func(challenge string) string) (reply, error) {
	g.tag++
	tag := "A" + strconv.Itoa(g.tag)
	line := tag + " " + verb
	if args != "" {
		line += " " + args
	}
	if err := g.send(stage, verb, line); err != nil {
		return reply{}, err
	}
	r := reply{verb: verb}
	for total := 0; ; {
		line, err := g.line(stage, verb)
		if err != nil {
			return reply{}, err
		}
		if total += len(line) + 1; total > 16*g.lim.login1 || len(r.lines) > 1000 {
			return reply{}, &Error{Kind: ErrLimit, Stage: stage, Command: verb, Text: "answer is too long"}
		}
		h := parseHead(kindUnknown, []byte(line))
		switch {
		case h.kind == kindContinue:
			if err := g.send(stage, verb, more(h.rest)); err != nil {
				return reply{}, err
			}
		case h.kind == kindTagged && strings.HasPrefix(line, tag+" "):
			r.word = h.word
			r.code, r.args, r.text = statusText(h.rest)
			if r.word != "OK" && r.word != "NO" && r.word != "BAD" {
				return reply{}, &Error{Kind: ErrProtocol, Stage: stage, Command: verb, Text: "tagged reply is neither OK, NO nor BAD"}
			}
			return r, nil
		case h.kind == kindStatus && h.word == "BYE":
			code, _, text := statusText(h.rest)
			return reply{}, &Error{Kind: ErrBye, Stage: stage, Command: verb, Code: code, Text: text}
		case strings.HasPrefix(line, "*"):
			r.lines = append(r.lines, line)
		}
		// Anything else (an empty line, a reply to nobody) is skipped.
	}
}

func (g *greeter) send(stage, verb, line string) error {
	if _, err := g.nc.Write([]byte(line + "\r\n")); err != nil {
		return g.ioError(stage, verb, err)
	}
	return nil
}

// line reads one response without its line end; literals stand in it as quoted strings.
func (g *greeter) line(stage, verb string) (string, error) {
	var out []byte
	for {
		frag, err := g.br.ReadSlice('\n')
		if len(out)+len(frag) > g.lim.login1 {
			return "", &Error{Kind: ErrLimit, Stage: stage, Command: verb, Text: "line is too long"}
		}
		out = append(out, frag...)
		if errors.Is(err, bufio.ErrBufferFull) {
			continue
		}
		if err != nil {
			return "", g.ioError(stage, verb, err)
		}
		s := strings.TrimRight(string(out), "\r\n")
		n := literalSize(s)
		if n < 0 {
			return s, nil
		}
		if n > g.lim.login1-len(out) {
			return "", &Error{Kind: ErrLimit, Stage: stage, Command: verb, Text: "literal is too large"}
		}
		lit := make([]byte, n)
		if _, err := io.ReadFull(g.br, lit); err != nil {
			return "", g.ioError(stage, verb, err)
		}
		out = append([]byte(s[:strings.LastIndexByte(s, '{')]), quote(string(lit))...)
	}
}

// literalSize is n of a data line that ends in {n}, else -1.
func literalSize(line string) int {
	if !strings.HasSuffix(line, "}") || !strings.HasPrefix(line, "* ") {
		return -1
	}
	if h := parseHead(kindUnknown, []byte(line)); h.kind != kindData {
		return -1
	}
	i := strings.LastIndexByte(line, '{')
	if i < 0 {
		return -1
	}
	n, err := strconv.ParseUint(line[i+1:len(line)-1], 10, 31)
	if err != nil {
		return -1
	}
	return int(n)
}

func (g *greeter) ioError(stage, verb string, err error) error {
	kind := ErrClosed
	if ne, ok := errors.AsType[net.Error](err); ok && ne.Timeout() {
		kind = ErrTimeout
	}
	if errors.Is(err, io.EOF) && stage == StageGreeting {
		err = fmt.Errorf("connection closed before greeting: %w", err)
	}
	return &Error{Kind: kind, Stage: stage, Command: verb, Err: err}
}

// quotable says whether s can be a quoted string (RFC 3501 section 9: QUOTED-CHAR).
func quotable(s string) bool {
	return len(s) <= 1024 && !strings.ContainsFunc(s, func(r rune) bool { return r == 0 || r == '\r' || r == '\n' || r > '~' })
}

func quote(s string) string {
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(s) + `"`
}
