package smtptest

import (
	"bufio"
	"encoding/base64"
	"fmt"
	"net"
	"strings"
	"sync"
)

// keeper knows users and answers Postfix's questions about them in the protocol of
// Dovecot's authentication service, version 1.1, so that no Dovecot need run.
type keeper struct {
	ln net.Listener
	wg sync.WaitGroup

	mu    sync.Mutex
	users map[string]string
	conns map[net.Conn]struct{}
}

func keep(path string, users map[string]string) (*keeper, error) {
	ln, err := net.Listen("unix", path)
	if err != nil {
		return nil, err
	}
	k := &keeper{ln: ln, users: users, conns: map[net.Conn]struct{}{}}
	k.wg.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			k.mu.Lock()
			k.conns[c] = struct{}{}
			k.mu.Unlock()
			k.wg.Go(func() { k.serve(c) })
		}
	})
	return k, nil
}

func (k *keeper) close() {
	_ = k.ln.Close()
	k.mu.Lock()
	for c := range k.conns {
		_ = c.Close()
	}
	k.mu.Unlock()
	k.wg.Wait()
}

// serve answers one of Postfix's processes.
func (k *keeper) serve(c net.Conn) {
	defer func() {
		_ = c.Close()
		k.mu.Lock()
		delete(k.conns, c)
		k.mu.Unlock()
	}()
	fmt.Fprintf(c, "VERSION\t1\t1\nMECH\tPLAIN\tplaintext\nMECH\tLOGIN\tplaintext\nMECH\tXOAUTH2\nMECH\tOAUTHBEARER\nSPID\t1\nCUID\t1\nCOOKIE\t00\nDONE\n")
	said := map[string][]string{} // by request: mechanism, then the answers
	for in := bufio.NewScanner(c); in.Scan(); {
		f := strings.Split(in.Text(), "\t")
		switch {
		case f[0] == "AUTH" && len(f) > 2:
			said[f[1]] = []string{f[2]}
			if r, ok := strings.CutPrefix(f[len(f)-1], "resp="); ok {
				said[f[1]] = append(said[f[1]], decode(r))
			}
		case f[0] == "CONT" && len(f) > 2:
			said[f[1]] = append(said[f[1]], decode(f[2]))
		default:
			continue
		}
		fmt.Fprint(c, k.answer(f[1], said[f[1]])+"\n")
	}
}

// answer is the service's line about what was said in request id.
func (k *keeper) answer(id string, said []string) string {
	prompts := map[string][]string{"PLAIN": {""}, "LOGIN": {"Username:", "Password:"}, "XOAUTH2": {""}, "OAUTHBEARER": {""}}[said[0]]
	if n := len(said) - 1; n < len(prompts) {
		return "CONT\t" + id + "\t" + base64.StdEncoding.EncodeToString([]byte(prompts[n]))
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if user, ok := login(said[0], said[1:], k.users); ok {
		return "OK\t" + id + "\tuser=" + user
	}
	return "FAIL\t" + id
}

func decode(s string) string {
	b, err := base64.StdEncoding.DecodeString(s)
	if err != nil {
		return ""
	}
	return string(b)
}

// login judges the answers of a mechanism: who it is, and whether the password, or the
// token in its place, is theirs.
func login(mechanism string, said []string, users map[string]string) (user string, ok bool) {
	pass := ""
	switch mechanism {
	case "PLAIN":
		if f := strings.Split(said[0], "\x00"); len(f) == 3 {
			user, pass = f[1], f[2]
		}
	case "LOGIN":
		user, pass = said[0], said[1]
	case "XOAUTH2", "OAUTHBEARER":
		for f := range strings.SplitSeq(said[0], "\x01") {
			if v, found := strings.CutPrefix(f, "auth=Bearer "); found {
				pass = v
			} else if v, found := strings.CutPrefix(f, "user="); found {
				user = v
			} else if v, found := strings.CutPrefix(f, "n,a="); found {
				user = strings.TrimSuffix(v, ",")
			}
		}
	}
	want, known := users[user]
	return user, known && pass == want && user != ""
}
