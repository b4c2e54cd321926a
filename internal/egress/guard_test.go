package egress

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
)

// names is a resolver that answers from a table, one answer per query.
type names struct {
	mu      sync.Mutex
	answers map[string][][]netip.Addr
	asked   int
}

func (n *names) LookupNetIP(_ context.Context, _, host string) ([]netip.Addr, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.asked++
	list := n.answers[host]
	if len(list) == 0 {
		return nil, &net.DNSError{Err: "no such host", Name: host, IsNotFound: true}
	}
	if len(list) > 1 {
		n.answers[host] = list[1:]
	}
	return list[0], nil
}

func resolver(host string, answers ...string) *names {
	n := &names{answers: map[string][][]netip.Addr{}}
	for _, a := range answers {
		var one []netip.Addr
		for s := range strings.SplitSeq(a, ",") {
			one = append(one, netip.MustParseAddr(s))
		}
		n.answers[host] = append(n.answers[host], one)
	}
	return n
}

func guard(t *testing.T, p Policy) *Guard {
	t.Helper()
	g, err := New(p)
	if err != nil {
		t.Fatal(err)
	}
	return g
}

// addresses has one row for each range, at both of its ends, and what each policy
// says of it: p(ublic), l(AN: private), a(ny), m(ail's any).
var addresses = []struct{ addr, open string }{
	{"1.1.1.1", "plam"},
	{"93.184.216.34", "plam"},
	{"9.255.255.255", "plam"},
	{"11.0.0.0", "plam"},
	{"2606:4700::1111", "plam"},
	{"2a00::1", "plam"},
	{"2001:200::1", "plam"},          // behind 2001::/23
	{"::ffff:1.1.1.1", "plam"},       // IPv4-mapped
	{"64:ff9b::1.1.1.1", "plam"},     // NAT64
	{"2606:4700::1111%eth0", "plam"}, // a zone changes nothing
	{"0.0.0.0", ""},
	{"0.255.255.255", ""},
	{"0.1.2.3", ""}, // this network
	{"10.0.0.0", "lam"},
	{"10.255.255.255", "lam"},
	{"100.64.0.0", "lam"},
	{"100.127.255.255", "lam"},
	{"100.63.255.255", "plam"},
	{"100.128.0.0", "plam"},
	{"127.0.0.0", "m"},
	{"127.0.0.1", "m"},
	{"127.255.255.255", "m"},
	{"169.254.0.0", ""},
	{"169.254.255.255", ""},
	{"169.254.1.1", ""},
	{"172.16.0.0", "lam"},
	{"172.31.255.255", "lam"},
	{"172.15.255.255", "plam"},
	{"172.32.0.0", "plam"},
	{"192.0.0.0", "am"},
	{"192.0.0.255", "am"},
	{"192.0.1.0", "plam"},
	{"192.0.2.0", "am"},
	{"192.0.2.255", "am"},
	{"192.88.99.0", "am"},
	{"192.88.99.255", "am"},
	{"192.168.0.0", "lam"},
	{"192.168.255.255", "lam"},
	{"192.167.255.255", "plam"},
	{"192.169.0.0", "plam"},
	{"198.18.0.0", "am"},
	{"198.19.255.255", "am"},
	{"198.20.0.0", "plam"},
	{"198.51.100.0", "am"},
	{"198.51.100.255", "am"},
	{"203.0.113.0", "am"},
	{"203.0.113.255", "am"},
	{"224.0.0.0", ""},
	{"239.255.255.255", ""},
	{"240.0.0.0", "am"},
	{"255.255.255.254", "am"},
	{"255.255.255.255", ""},
	{"::", ""},
	{"::1", "m"},
	{"::2", "am"},
	{"::1.1.1.1", "am"},
	{"::10.0.0.1", "am"},
	{"::127.0.0.1", "m"},
	{"::169.254.169.254", ""},
	{"64:ff9b:1::", ""},
	{"64:ff9b:1::1.1.1.1", "am"},
	{"64:ff9b:1::127.0.0.1", "m"},
	{"64:ff9b:1:ffff::169.254.1.1", ""},
	{"100::", "am"},
	{"100::ffff:ffff:ffff:ffff", "am"},
	{"100:0:0:1::", "am"}, // the last: nobody's, outside 2000::/3
	{"2001::", "am"},
	{"2001:1ff:ffff::", "am"},
	{"2001:db8::", "am"},
	{"2001:db8:ffff::1", "am"},
	{"2001:db9::", "plam"},
	{"2002::", ""},
	{"2002:101:101::", "am"},
	{"2002:7f00:1::", "m"},
	{"2002:a9fe:a9fe::", ""},
	{"2003::", "plam"},
	{"3fff::", "am"},
	{"3fff:fff:ffff::", "am"},
	{"3fff:1000::", "plam"},
	{"4000::1", "am"},
	{"5f00::", "am"},
	{"5f00:ffff::", "am"},
	{"fc00::", "lam"},
	{"fdff:ffff::1", "lam"},
	{"fe80::", ""},
	{"febf:ffff::1", ""},
	{"fe80::1%lo", ""},
	{"fec0::", "am"},
	{"feff:ffff::1", "am"},
	{"ff00::", ""},
	{"ff02::1", ""},
	{"ffff:ffff::1", ""},
	{"169.254.169.254", ""},
	{"fd00:ec2::254", ""},
	{"100.100.100.200", ""},
	{"168.63.129.16", ""}, // metadata
	{"::ffff:127.0.0.1", "m"},
	{"::ffff:10.1.2.3", "lam"},
	{"::ffff:169.254.169.254", ""},
	{"::ffff:0.0.0.0", ""},
	{"64:ff9b::7f00:1", "m"},
	{"64:ff9b::a01:203", "lam"},
	{"64:ff9b::a9fe:a9fe", ""},
	{"64:ff9b::6464:64c8", ""},
	{"::1%lo", "m"},
}

func TestRanges(t *testing.T) {
	policies := []struct {
		letter string
		policy Policy
	}{
		{"p", Policy{}}, {"l", Policy{Name: Private}}, {"a", Policy{Name: Any}}, {"m", Policy{Name: Any, Mail: true}},
	}
	for _, row := range addresses {
		for _, p := range policies {
			want := strings.Contains(row.open, p.letter)
			g := guard(t, p.policy)
			literal := net.JoinHostPort(row.addr, "443")
			if got := g.CheckURL("https://" + strings.ReplaceAll(literal, "%", "%25") + "/x"); (got == nil) != want || got != nil && !errors.Is(got, ErrRefused) {
				t.Errorf("%s: URL of %s: %v, want open %v", p.letter, row.addr, got, want)
			}
			if got := judged(t, p.policy, literal, ""); got != want {
				t.Errorf("%s: dial of the literal %s: open %v, want %v", p.letter, row.addr, got, want)
			}
			if got := judged(t, p.policy, "name.example:443", row.addr); got != want {
				t.Errorf("%s: dial of a name with the answer %s: open %v, want %v", p.letter, row.addr, got, want)
			}
		}
	}
}

// judged says whether a dial gets past the guard. Nothing is connected: the context
// is over before the first attempt, which only an allowed address notices.
func judged(t *testing.T, p Policy, to, answer string) bool {
	t.Helper()
	if answer != "" {
		p.Resolver = resolver("name.example", answer)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	conn, err := guard(t, p).DialContext(ctx, "tcp", to)
	if conn != nil {
		_ = conn.Close()
		t.Fatalf("%s: connected", to)
	}
	return !errors.Is(err, ErrRefused)
}

// The hook must refuse by itself what the first look lets through.
func TestControlHookJudgesTheSocket(t *testing.T) {
	l := listen(t)
	g := guard(t, Policy{Name: Any})
	conn, err := g.race(t.Context(), "tcp", "name.example", []netip.AddrPort{netip.MustParseAddrPort(l.Addr().String())}, false)
	if conn != nil || !errors.Is(err, ErrRefused) {
		t.Fatalf("got %v, %v; want ErrRefused", conn, err)
	}
	if err.Error() != ErrRefused.Error() {
		t.Errorf("the refusal says %q", err)
	}
}

func TestRefusalSaysNothing(t *testing.T) {
	g := guard(t, Policy{Resolver: resolver("name.example", "10.11.12.13")})
	_, err := g.DialContext(t.Context(), "tcp", "name.example:443")
	if want := "address not allowed by egress.policy"; err == nil || err.Error() != want {
		t.Errorf("got %q, want %q", err, want)
	}
}

func TestRebinding(t *testing.T) {
	l := listen(t)
	_, port, _ := net.SplitHostPort(l.Addr().String())
	t.Run("the answer that was judged is the one that is dialled", func(t *testing.T) {
		dns := resolver("name.example", "127.0.0.1", "10.0.0.1", "10.0.0.1")
		g := guard(t, Policy{Allow: []string{"127.0.0.1"}, Resolver: dns})
		conn, err := g.DialContext(t.Context(), "tcp", "name.example:"+port)
		if err != nil {
			t.Fatal(err)
		}
		_ = conn.Close()
		if dns.asked != 1 {
			t.Errorf("the name was looked up %d times in one dial", dns.asked)
		}
		if _, err := g.DialContext(t.Context(), "tcp", "name.example:"+port); !errors.Is(err, ErrRefused) {
			t.Errorf("second dial, private answer: %v", err)
		}
	})
	t.Run("of a mixed answer only what is allowed is dialled", func(t *testing.T) {
		dns := resolver("name.example", "10.0.0.1,127.0.0.1,169.254.169.254")
		g := guard(t, Policy{Allow: []string{"127.0.0.0/8"}, Resolver: dns})
		conn, err := g.DialContext(t.Context(), "tcp", "name.example:"+port)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		if got := conn.RemoteAddr().String(); got != l.Addr().String() {
			t.Errorf("connected to %s", got)
		}
	})
}

func TestOddSpellings(t *testing.T) {
	for _, raw := range []string{
		"https://127.1/", "https://127.0.1/", "https://2130706433/", "https://0x7f000001/", "https://0x7f.1/", "https://0177.0.0.1/",
		"https://017700000001/", "https://0/", "https://0x0/", "https://127.0.0.1./", "https://１２７.0.0.1/", "https://127。0。0。1/",
		"https://localhost/", "https://localhost./", "https://LOCALHOST/", "https://a.localhost/", "https://ｌocalhost/",
		"https://[::1]/", "https://[::ffff:7f00:1]/", "https://[fe80::1%25eth0]/", "https://[::1%25lo]/", "https://user:pass@127.0.0.1/",
		"https://①②⑦.0.0.1/", "https://1.1.1.1:25/", "https://example.com:6379/", "https://example.com:22/",
	} {
		if err := guard(t, Policy{}).CheckURL(raw); !errors.Is(err, ErrRefused) {
			t.Errorf("%s: %v, want ErrRefused", raw, err)
		}
	}
	for _, raw := range []string{
		"", "example.com", "//example.com/", "ftp://example.com/", "file:///etc/passwd", "gopher://127.0.0.1/", "https:example.com", "https:///x",
		"https://", "https://good.example\\@127.0.0.1/", "https://exam ple.com/", "https://example.com/\n", "https://example.com:99999/",
		"https://example.com:0/", "https://example.com:/", "https://exa\x00mple.com", "https://[::1/", "https://user:geheim@[bad/",
	} {
		err := guard(t, Policy{}).CheckURL(raw)
		if err == nil {
			t.Errorf("%q: accepted", raw)
		} else if strings.Contains(err.Error(), "geheim") {
			t.Errorf("%q: the error repeats the password: %v", raw, err)
		}
	}
	for _, raw := range []string{
		"https://example.com/hook?x=1", "https://example.com:8443/", "https://bücher.example/", "https://good.example/#@127.0.0.1",
		"https://user:pass@example.com/", "https://1.1.1.1/", "https://[2606:4700::1111]:444/", "https://a_b.example.com/", "https://example.com./",
	} {
		if err := guard(t, Policy{}).CheckURL(raw); err != nil {
			t.Errorf("%s: %v", raw, err)
		}
	}
}

// At dial the same spellings are either an address, and judged, or a name, and then
// judged by what some resolver makes of them.
func TestOddSpellingsAtDial(t *testing.T) {
	for _, host := range []string{"127.1", "2130706433", "0x7f000001", "0177.0.0.1", "0", "１２７.0.0.1", "localhost", "localhost."} {
		dns := resolver(strings.TrimSuffix(host, "."), "127.0.0.1")
		_, err := guard(t, Policy{Name: Any, Resolver: dns}).DialContext(t.Context(), "tcp", host+":443")
		if !errors.Is(err, ErrRefused) {
			t.Errorf("%s: %v, want ErrRefused", host, err)
		}
	}
}

func TestAllow(t *testing.T) {
	cases := []struct {
		allow  []string
		host   string // "" for a literal
		to     string
		plain  bool
		policy string
		want   bool
	}{
		{[]string{"127.0.0.0/8"}, "", "127.0.0.1:8080", false, Public, true},
		{[]string{"127.0.0.0/8"}, "", "127.0.0.1:8080", true, Public, true}, // http to what is listed
		{[]string{"127.0.0.0/8:8080"}, "", "127.0.0.1:8080", false, Public, true},
		{[]string{"127.0.0.0/8:8080"}, "", "127.0.0.1:8081", false, Public, false},
		{[]string{"10.0.0.5"}, "", "10.0.0.5:6379", false, Public, true}, // denied ports open with their address
		{[]string{"10.0.0.5"}, "", "10.0.0.6:443", false, Public, false},
		{[]string{"10.0.0.5:443"}, "", "[::ffff:10.0.0.5]:443", false, Public, true},
		{[]string{"::1"}, "", "[::1]:443", false, Public, true},
		{[]string{"[::1]:443"}, "", "[::1]:444", false, Public, false},
		{[]string{"[fd00::/8]:443"}, "", "[fd12::1]:443", false, Public, true},
		{[]string{"hooks.lan"}, "hooks.lan", "10.0.0.5:443", false, Public, true},
		{[]string{"Hooks.LAN."}, "hooks.lan", "10.0.0.5:80", true, Public, true},
		{[]string{"hooks.lan:8443"}, "hooks.lan", "10.0.0.5:443", false, Public, false},
		{[]string{"hooks.lan"}, "evil.lan", "10.0.0.5:443", false, Public, false},
		{[]string{"hooks.lan"}, "hooks.lan", "169.254.169.254:80", true, Any, false}, // a listed name may not point there
		{[]string{"0.0.0.0/0", "::/0"}, "", "169.254.169.254:80", true, Any, false},
		{[]string{"0.0.0.0/0", "::/0"}, "", "[fd00:ec2::254]:80", true, Any, false},
		{[]string{"0.0.0.0/0"}, "", "[64:ff9b::a9fe:a9fe]:80", true, Any, false},
		{[]string{"169.254.169.254"}, "", "169.254.169.254:80", true, Public, true}, // the operator insists
		{[]string{"0.0.0.0/0"}, "", "169.254.1.1:80", true, Public, true},
		{nil, "", "1.1.1.1:80", true, Public, false},
		{nil, "", "1.1.1.1:6379", false, Public, false},
		{nil, "", "1.1.1.1:6379", false, Any, true},
	}
	for _, c := range cases {
		err := guard(t, Policy{Name: c.policy, Allow: c.allow}).judge(c.host, netip.MustParseAddrPort(c.to), c.plain)
		if (err == nil) != c.want {
			t.Errorf("allow %v, %s %s plain=%v under %s: %v, want open %v", c.allow, c.host, c.to, c.plain, c.policy, err, c.want)
		}
	}
}

func TestOwnListeners(t *testing.T) {
	own := []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:3000"), netip.MustParseAddrPort("[::]:9090"), netip.MustParseAddrPort("93.184.216.34:443")}
	cases := []struct {
		allow []string
		to    string
		want  bool
	}{
		{[]string{"127.0.0.0/8"}, "127.0.0.1:3000", false},
		{[]string{"127.0.0.1"}, "127.0.0.1:3000", false},
		{[]string{"127.0.0.1:3000"}, "127.0.0.1:3000", true},
		{[]string{"127.0.0.0/8"}, "127.0.0.1:3001", true},
		{[]string{"127.0.0.0/8"}, "127.0.0.9:9090", false}, // the unspecified listener is everywhere on this host
		{[]string{"::1"}, "[::1]:9090", false},
		{nil, "93.184.216.34:443", false},
		{nil, "93.184.216.34:444", true},
	}
	for _, c := range cases {
		err := guard(t, Policy{Allow: c.allow, Own: own}).judge("", netip.MustParseAddrPort(c.to), false)
		if (err == nil) != c.want {
			t.Errorf("allow %v, own listeners, %s: %v, want open %v", c.allow, c.to, err, c.want)
		}
	}
}

func TestPlainHTTP(t *testing.T) {
	cases := []struct {
		policy Policy
		url    string
		want   bool
	}{
		{Policy{}, "http://example.com/", false},
		{Policy{AllowHTTP: true}, "http://example.com/", true},
		{Policy{AllowHTTP: true}, "http://10.0.0.1/", false},
		{Policy{Name: Private}, "http://10.0.0.1/", false},
		{Policy{Allow: []string{"10.0.0.0/8"}}, "http://10.0.0.1/", true},
		{Policy{Allow: []string{"10.0.0.0/8"}}, "http://hooks.lan/", true}, // judged when it is dialled
		{Policy{Allow: []string{"10.0.0.0/8:8080"}}, "http://hooks.lan/", false},
		{Policy{Allow: []string{"hooks.lan:8080"}}, "http://hooks.lan:8080/", true},
		{Policy{Allow: []string{"localhost"}}, "http://localhost:5000/", true},
		{Policy{Allow: []string{"127.0.0.1"}}, "http://localhost:5000/", true},
	}
	for _, c := range cases {
		if err := guard(t, c.policy).CheckURL(c.url); (err == nil) != c.want {
			t.Errorf("%+v, %s: %v, want open %v", c.policy, c.url, err, c.want)
		}
	}
}

func TestNewNamesEveryProblem(t *testing.T) {
	bad := []string{"10.0.0.1/8", "10.0.0.0/33", "[::1", "[::1]x", "host:0", "host:", "host:99999", "127.1", "", "a b", "::ffff:10.0.0.0/104", "*.lan/x"}
	_, err := New(Policy{Name: "open", Allow: bad})
	if err == nil {
		t.Fatal("accepted")
	}
	for _, want := range append(bad, "open") {
		if !strings.Contains(err.Error(), fmt.Sprintf("%q", want)) {
			t.Errorf("the error does not name %q: %v", want, err)
		}
	}
}

func listen(t *testing.T) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l
}
