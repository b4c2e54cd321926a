package smtpsend

import (
	"strconv"
	"strings"

	"github.com/postrider/postrider/smtpsend/transport"
)

// Class says whether trying again may help.
type Class string

// The classes.
const (
	Temporary Class = "temporary"
	Permanent Class = "permanent"
)

// Scope is what a failure is about.
type Scope string

// The scopes.
const (
	ScopeRecipient Scope = "recipient"
	ScopeMessage   Scope = "message"
	ScopeAccount   Scope = "account"
	ScopeServer    Scope = "server"
)

// The hints of verdicts: what a person would look at first.
const (
	HintCredentials = "credentials" // they are refused, or there are none the server takes
	HintTLS         = "tls"         // no encryption that can be trusted
	HintLimit       = "limit"       // the provider takes no more for now
	HintConnections = "connections" // the provider takes fewer at once
	HintPolicy      = "policy"      // the server wants nothing of us
	HintSize        = "size"        // the message is larger than the server takes
	HintExtension   = "extension"   // the message needs what the server does not offer
)

// Verdict is what a failure means. It is shown on the row.
type Verdict struct {
	Class     Class
	Scope     Scope
	ErrorCode string // one of the codes of messageDeliveryError
	Hint      string // "" or one of the Hint words
}

// Limit says that the provider takes no more of the account for now: its spool is held,
// and no mail fails by it.
func (v Verdict) Limit() bool { return v.Hint == HintLimit || v.Hint == HintConnections }

// sleep is the reason for which the spool sleeps; "" lets it go on.
func (v Verdict) sleep() string {
	switch {
	case v.Hint == HintConnections:
		return SleepServer // for a moment, and then with fewer
	case v.Limit():
		return SleepLimit
	case v.Hint == HintCredentials:
		return SleepAuthentication
	case v.Scope == ScopeAccount || v.Scope == ScopeServer:
		return SleepServer
	}
	return ""
}

// Classify judges what ended a transaction. It is pure. The reply code decides; without a
// reply the kind of error, which makes a message fail only where the message itself is
// what the server cannot take.
func Classify(p Profile, e *transport.Error) Verdict {
	switch {
	case e.Code == 0:
		return byKind(e)
	case e.Phase == transport.PhaseRcpt:
		return classifyRcpt(p, e.Code, e.Enhanced, e.Line)
	}
	if hit, connections := p.limit(e.Code, e.Enhanced, e.Line); hit {
		return limited(byPhase(e.Phase), connections)
	}
	switch {
	case e.Code == 421:
		return Verdict{Temporary, ScopeServer, "ECONNECTION", ""}
	case e.Code == 503, e.Code/100 < 4:
		return Verdict{Temporary, ScopeServer, "EPROTOCOL", ""} // we lost sequence
	case e.Phase == transport.PhaseSTARTTLS:
		return Verdict{Temporary, ScopeAccount, "ETLS", HintTLS}
	case e.Phase == transport.PhaseAuth, authCode(e.Code):
		return byAuth(e.Code)
	}
	permanent := e.Code/100 == 5
	switch e.Phase {
	case transport.PhaseConnect, transport.PhaseTLS, transport.PhaseGreeting, transport.PhaseHello:
		if permanent {
			return Verdict{Temporary, ScopeServer, "EPROTOCOL", HintPolicy}
		}
		return Verdict{Temporary, ScopeServer, "ECONNECTION", ""}
	}
	v := Verdict{Temporary, ScopeMessage, byPhase(e.Phase), ""}
	if permanent {
		v.Class = Permanent
		if e.Enhanced == [3]int{5, 3, 4} { // RFC 3463: message too big for system
			v.ErrorCode, v.Hint = "EMESSAGE", HintSize
		}
	}
	return v
}

// classifyRefusal judges the refusal of one recipient of several.
func classifyRefusal(p Profile, r transport.Refusal) Verdict {
	return classifyRcpt(p, r.Code, parseEnhanced(r.Enhanced), r.Response)
}

func classifyRcpt(p Profile, code int, enhanced [3]int, line string) Verdict {
	if hit, connections := p.limit(code, enhanced, line); hit {
		return limited("EENVELOPE", connections)
	}
	v := Verdict{Permanent, ScopeRecipient, "EENVELOPE", ""}
	switch {
	case code == 421:
		return Verdict{Temporary, ScopeServer, "ECONNECTION", ""}
	case code == 503, code/100 < 4:
		return Verdict{Temporary, ScopeServer, "EPROTOCOL", ""}
	case authCode(code):
		return byAuth(code)
	case code/100 == 4:
		v.Class = Temporary
	case enhanced != [3]int{} && enhanced[1] != 1 && enhanced[1] != 2:
		v.Scope = ScopeMessage // relaying denied, policy: it says nothing of the address
	}
	return v
}

func limited(errorCode string, connections bool) Verdict {
	v := Verdict{Temporary, ScopeAccount, errorCode, HintLimit}
	if connections {
		v.Hint = HintConnections
	}
	return v
}

// authCode says whether a reply is about the login at whatever step it comes (RFC 4954
// section 6; 525 is RFC 5248's, the account is disabled).
func authCode(code int) bool {
	return code == 530 || code == 534 || code == 535 || code == 538 || code == 525
}

func byAuth(code int) Verdict {
	v := Verdict{Temporary, ScopeAccount, "EAUTH", HintCredentials}
	if code/100 == 4 { // 454, 432: the server cannot tell at the moment
		v.Hint = ""
	}
	return v
}

func byKind(e *transport.Error) Verdict {
	switch e.Kind {
	case transport.KindDNS:
		return Verdict{Temporary, ScopeServer, "EDNS", ""}
	case transport.KindConnect:
		return Verdict{Temporary, ScopeServer, "ECONNECTION", ""}
	case transport.KindTimeout:
		return Verdict{Temporary, ScopeServer, "ETIMEDOUT", ""}
	case transport.KindTLS:
		return Verdict{Temporary, ScopeAccount, "ETLS", HintTLS}
	case transport.KindProtocol:
		return Verdict{Temporary, ScopeServer, "EPROTOCOL", ""}
	case transport.KindAuth:
		return byAuth(0)
	case transport.KindNoAuth:
		return Verdict{Temporary, ScopeAccount, "ENOAUTH", HintCredentials}
	case transport.KindEnvelope, transport.KindMessage: // found by us, before anything was sent
		v := Verdict{Permanent, ScopeMessage, "EMESSAGE", HintExtension}
		if e.Enhanced == [3]int{5, 3, 4} {
			v.Hint = HintSize
		}
		return v
	case transport.KindLocal:
		return Verdict{Temporary, ScopeMessage, "ESTREAM", ""}
	}
	return Verdict{Temporary, ScopeServer, "ESOCKET", ""}
}

// byPhase is the error code of a refusal by the command it answers.
func byPhase(p transport.Phase) string {
	switch p {
	case transport.PhaseMail, transport.PhaseRcpt:
		return "EENVELOPE"
	case transport.PhaseData, transport.PhaseBody, transport.PhaseDot:
		return "EMESSAGE"
	case transport.PhaseAuth:
		return "EAUTH"
	}
	return "ECONNECTION"
}

// parseEnhanced reads x.y.z (RFC 3463); zero where it is none.
func parseEnhanced(s string) (out [3]int) {
	parts := strings.Split(s, ".")
	if len(parts) != 3 {
		return out
	}
	for i, p := range parts {
		n, err := strconv.Atoi(p)
		if err != nil || n < 0 || n > 999 {
			return [3]int{}
		}
		out[i] = n
	}
	return out
}
