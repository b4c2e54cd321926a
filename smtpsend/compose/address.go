package compose

import (
	"net/netip"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/net/idna"
)

// RFC 5321 section 4.5.3.1. A path has its address in angle brackets.
const (
	maxLocal  = 64
	maxDomain = 255
	maxPath   = 256
)

// domains makes A-labels (RFC 5891), of upper case and wide forms too.
var domains = idna.New(idna.MapForLookup(), idna.BidiRule(), idna.StrictDomainName(true), idna.Transitional(false))

// checkAddress reads an addr-spec strictly and gives it as it goes into commands and
// headers, its domain as A-labels; utf8 says that its local part is not ASCII. ok is
// false of anything else, obsolete forms and comments included.
func checkAddress(s string) (addr string, utf8 bool, ok bool) {
	i := strings.LastIndexByte(s, '@')
	if i < 1 {
		return "", false, false
	}
	local, domain := s[:i], s[i+1:]
	if !isLocal(local) || len(local) > maxLocal {
		return "", false, false
	}
	if domain, ok = checkDomain(domain); !ok || len(domain) > maxDomain || len(local)+len(domain)+len("<@>") > maxPath {
		return "", false, false
	}
	return local + "@" + domain, !isASCII(local), true
}

// isLocal says whether s is a local part: RFC 5321 section 4.1.2, with the letters of RFC
// 6531 section 3.3.
func isLocal(s string) bool {
	if inner, ok := strings.CutPrefix(s, `"`); ok {
		if inner, ok = strings.CutSuffix(inner, `"`); !ok {
			return false
		}
		for i := 0; i < len(inner); i++ {
			switch c := inner[i]; {
			case c == '\\' && i+1 < len(inner) && ' ' <= inner[i+1] && inner[i+1] <= '~':
				i++
			case c == '"' || c == '\\':
				return false
			}
		}
		return inner != "" && isPrint(inner)
	}
	for atom := range strings.SplitSeq(s, ".") {
		if atom == "" || strings.ContainsFunc(atom, func(r rune) bool {
			return r < utf8.RuneSelf && !isAtext(byte(r))
		}) || !isPrint(atom) {
			return false
		}
	}
	return true
}

// checkDomain gives a domain, or an address literal, as it goes into commands.
func checkDomain(s string) (string, bool) {
	if literal, ok := strings.CutPrefix(s, "["); ok {
		literal, ok = strings.CutSuffix(literal, "]")
		v6, is6 := strings.CutPrefix(literal, "IPv6:")
		ip, err := netip.ParseAddr(v6)
		return s, ok && err == nil && ip.Is6() == is6 && ip.Zone() == ""
	}
	// Names that are A-labels already need not follow what IDNA asks of them: hyphens in
	// places that it reserves are in use.
	if !isASCII(s) {
		var err error
		if s, err = domains.ToASCII(s); err != nil {
			return "", false
		}
	}
	for label := range strings.SplitSeq(s, ".") {
		if label == "" || len(label) > 63 || label[0] == '-' || label[len(label)-1] == '-' {
			return "", false
		}
		for i := range len(label) {
			if c := label[i]; !isAlnum(c) && c != '-' {
				return "", false
			}
		}
	}
	return s, true
}

// sameAddress is a key under which addresses are the same: domains have no case.
func sameAddress(addr string) string {
	i := strings.LastIndexByte(addr, '@')
	return addr[:i+1] + strings.ToLower(addr[i+1:])
}

func isAlnum(c byte) bool {
	return '0' <= c && c <= '9' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z'
}

// isAtext is RFC 5322 section 3.2.3.
func isAtext(c byte) bool { return isAlnum(c) || strings.IndexByte("!#$%&'*+-/=?^_`{|}~", c) >= 0 }

func isASCII(s string) bool {
	for i := range len(s) {
		if s[i] >= utf8.RuneSelf {
			return false
		}
	}
	return true
}

// isPrint says whether s is valid and has only spaces and what can be seen.
func isPrint(s string) bool {
	return utf8.ValidString(s) && !strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) })
}

// hasBreak says whether s could begin a line, or end a string, of somebody who reads it.
func hasBreak(s string) bool { return strings.ContainsAny(s, "\r\n\x00") }

// isID says whether s is a message id that may be written: <left@right>, without what
// would end it.
func isID(s string) bool {
	inner, open := strings.CutPrefix(s, "<")
	inner, closed := strings.CutSuffix(inner, ">")
	left, right, at := strings.Cut(inner, "@")
	return open && closed && at && left != "" && right != "" && len(s) <= maxID && isGraph(inner) && !strings.ContainsAny(inner, "<>")
}

// maxID bounds message ids and content ids, octets.
const maxID = 250

// isGraph says whether s is ASCII without spaces and controls.
func isGraph(s string) bool {
	for i := range len(s) {
		if s[i] <= ' ' || s[i] > '~' {
			return false
		}
	}
	return true
}
