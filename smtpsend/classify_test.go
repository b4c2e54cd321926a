package smtpsend

import (
	"testing"

	"github.com/postrider/postrider/smtpsend/transport"
)

func TestClassify(t *testing.T) {
	for name, tt := range map[string]struct {
		err  transport.Error
		host string
		want Verdict
	}{
		"no such host":           {err: transport.Error{Phase: transport.PhaseConnect, Kind: transport.KindDNS}, want: Verdict{Temporary, ScopeServer, "EDNS", ""}},
		"connection refused":     {err: transport.Error{Phase: transport.PhaseConnect, Kind: transport.KindConnect}, want: Verdict{Temporary, ScopeServer, "ECONNECTION", ""}},
		"timeout of a step":      {err: transport.Error{Phase: transport.PhaseMail, Kind: transport.KindTimeout}, want: Verdict{Temporary, ScopeServer, "ETIMEDOUT", ""}},
		"reset":                  {err: transport.Error{Phase: transport.PhaseData, Kind: transport.KindSocket}, want: Verdict{Temporary, ScopeServer, "ESOCKET", ""}},
		"endless reply":          {err: transport.Error{Phase: transport.PhaseHello, Kind: transport.KindProtocol}, want: Verdict{Temporary, ScopeServer, "EPROTOCOL", ""}},
		"certificate":            {err: transport.Error{Phase: transport.PhaseTLS, Kind: transport.KindTLS}, want: Verdict{Temporary, ScopeAccount, "ETLS", HintTLS}},
		"STARTTLS refused":       {err: transport.Error{Phase: transport.PhaseSTARTTLS, Kind: transport.KindTLS, Code: 454}, want: Verdict{Temporary, ScopeAccount, "ETLS", HintTLS}},
		"421 greeting":           {err: transport.Error{Phase: transport.PhaseGreeting, Code: 421}, want: Verdict{Temporary, ScopeServer, "ECONNECTION", ""}},
		"450 greeting":           {err: transport.Error{Phase: transport.PhaseGreeting, Code: 450}, want: Verdict{Temporary, ScopeServer, "ECONNECTION", ""}},
		"554 greeting":           {err: transport.Error{Phase: transport.PhaseGreeting, Code: 554}, want: Verdict{Temporary, ScopeServer, "EPROTOCOL", HintPolicy}},
		"550 EHLO":               {err: transport.Error{Phase: transport.PhaseHello, Code: 550}, want: Verdict{Temporary, ScopeServer, "EPROTOCOL", HintPolicy}},
		"535 AUTH":               {err: transport.Error{Phase: transport.PhaseAuth, Code: 535, Kind: transport.KindAuth}, want: Verdict{Temporary, ScopeAccount, "EAUTH", HintCredentials}},
		"525 AUTH":               {err: transport.Error{Phase: transport.PhaseAuth, Code: 525}, want: Verdict{Temporary, ScopeAccount, "EAUTH", HintCredentials}},
		"454 AUTH":               {err: transport.Error{Phase: transport.PhaseAuth, Code: 454, Enhanced: [3]int{4, 7, 0}}, want: Verdict{Temporary, ScopeAccount, "EAUTH", ""}},
		"432 AUTH":               {err: transport.Error{Phase: transport.PhaseAuth, Code: 432}, want: Verdict{Temporary, ScopeAccount, "EAUTH", ""}},
		"421 AUTH":               {err: transport.Error{Phase: transport.PhaseAuth, Code: 421}, want: Verdict{Temporary, ScopeServer, "ECONNECTION", ""}},
		"AUTH not offered":       {err: transport.Error{Phase: transport.PhaseAuth, Kind: transport.KindNoAuth}, want: Verdict{Temporary, ScopeAccount, "ENOAUTH", HintCredentials}},
		"530 MAIL":               {err: transport.Error{Phase: transport.PhaseMail, Code: 530}, want: Verdict{Temporary, ScopeAccount, "EAUTH", HintCredentials}},
		"451 MAIL":               {err: transport.Error{Phase: transport.PhaseMail, Code: 451}, want: Verdict{Temporary, ScopeMessage, "EENVELOPE", ""}},
		"550 MAIL":               {err: transport.Error{Phase: transport.PhaseMail, Code: 550}, want: Verdict{Permanent, ScopeMessage, "EENVELOPE", ""}},
		"552 5.3.4 MAIL":         {err: transport.Error{Phase: transport.PhaseMail, Code: 552, Enhanced: [3]int{5, 3, 4}}, want: Verdict{Permanent, ScopeMessage, "EMESSAGE", HintSize}},
		"421 MAIL":               {err: transport.Error{Phase: transport.PhaseMail, Code: 421}, want: Verdict{Temporary, ScopeServer, "ECONNECTION", ""}},
		"503 MAIL":               {err: transport.Error{Phase: transport.PhaseMail, Code: 503, Enhanced: [3]int{5, 5, 1}}, want: Verdict{Temporary, ScopeServer, "EPROTOCOL", ""}},
		"250 to DATA":            {err: transport.Error{Phase: transport.PhaseData, Code: 250}, want: Verdict{Temporary, ScopeServer, "EPROTOCOL", ""}},
		"450 RCPT":               {err: transport.Error{Phase: transport.PhaseRcpt, Code: 450}, want: Verdict{Temporary, ScopeRecipient, "EENVELOPE", ""}},
		"550 RCPT":               {err: transport.Error{Phase: transport.PhaseRcpt, Code: 550}, want: Verdict{Permanent, ScopeRecipient, "EENVELOPE", ""}},
		"550 5.1.1 RCPT":         {err: transport.Error{Phase: transport.PhaseRcpt, Code: 550, Enhanced: [3]int{5, 1, 1}}, want: Verdict{Permanent, ScopeRecipient, "EENVELOPE", ""}},
		"552 5.2.2 RCPT":         {err: transport.Error{Phase: transport.PhaseRcpt, Code: 552, Enhanced: [3]int{5, 2, 2}}, want: Verdict{Permanent, ScopeRecipient, "EENVELOPE", ""}},
		"550 5.7.1 RCPT":         {err: transport.Error{Phase: transport.PhaseRcpt, Code: 550, Enhanced: [3]int{5, 7, 1}, Line: "550 5.7.1 Relaying denied"}, want: Verdict{Permanent, ScopeMessage, "EENVELOPE", ""}},
		"550 5.5.1 RCPT":         {err: transport.Error{Phase: transport.PhaseRcpt, Code: 550, Enhanced: [3]int{5, 5, 1}}, want: Verdict{Permanent, ScopeMessage, "EENVELOPE", ""}},
		"503 RCPT":               {err: transport.Error{Phase: transport.PhaseRcpt, Code: 503}, want: Verdict{Temporary, ScopeServer, "EPROTOCOL", ""}},
		"550 5.4.5 RCPT":         {err: transport.Error{Phase: transport.PhaseRcpt, Code: 550, Enhanced: [3]int{5, 4, 5}}, want: Verdict{Temporary, ScopeAccount, "EENVELOPE", HintLimit}},
		"550 5.4.5 MAIL":         {err: transport.Error{Phase: transport.PhaseMail, Code: 550, Enhanced: [3]int{5, 4, 5}}, want: Verdict{Temporary, ScopeAccount, "EENVELOPE", HintLimit}},
		"550 5.4.5 dot":          {err: transport.Error{Phase: transport.PhaseDot, Code: 550, Enhanced: [3]int{5, 4, 5}}, want: Verdict{Temporary, ScopeAccount, "EMESSAGE", HintLimit}},
		"421 4.7.28 of Gmail":    {err: transport.Error{Phase: transport.PhaseDot, Code: 421, Enhanced: [3]int{4, 7, 28}}, host: "smtp.gmail.com", want: Verdict{Temporary, ScopeAccount, "EMESSAGE", HintLimit}},
		"421 4.7.28 elsewhere":   {err: transport.Error{Phase: transport.PhaseDot, Code: 421, Enhanced: [3]int{4, 7, 28}}, want: Verdict{Temporary, ScopeServer, "ECONNECTION", ""}},
		"432 4.3.2 of Microsoft": {err: transport.Error{Phase: transport.PhaseData, Code: 432, Enhanced: [3]int{4, 3, 2}}, host: "smtp.office365.com", want: Verdict{Temporary, ScopeAccount, "EMESSAGE", HintConnections}},
		"451 DATA":               {err: transport.Error{Phase: transport.PhaseData, Code: 451}, want: Verdict{Temporary, ScopeMessage, "EMESSAGE", ""}},
		"554 DATA":               {err: transport.Error{Phase: transport.PhaseData, Code: 554}, want: Verdict{Permanent, ScopeMessage, "EMESSAGE", ""}},
		"451 dot":                {err: transport.Error{Phase: transport.PhaseDot, Code: 451}, want: Verdict{Temporary, ScopeMessage, "EMESSAGE", ""}},
		"550 dot":                {err: transport.Error{Phase: transport.PhaseDot, Code: 550}, want: Verdict{Permanent, ScopeMessage, "EMESSAGE", ""}},
		"552 5.3.4 dot":          {err: transport.Error{Phase: transport.PhaseDot, Code: 552, Enhanced: [3]int{5, 3, 4}}, want: Verdict{Permanent, ScopeMessage, "EMESSAGE", HintSize}},
		"larger than SIZE":       {err: transport.Error{Phase: transport.PhaseMail, Kind: transport.KindMessage, Enhanced: [3]int{5, 3, 4}}, want: Verdict{Permanent, ScopeMessage, "EMESSAGE", HintSize}},
		"no SMTPUTF8":            {err: transport.Error{Phase: transport.PhaseMail, Kind: transport.KindEnvelope, Enhanced: [3]int{5, 6, 7}}, want: Verdict{Permanent, ScopeMessage, "EMESSAGE", HintExtension}},
		"our own fault":          {err: transport.Error{Phase: transport.PhaseBody, Kind: transport.KindLocal}, want: Verdict{Temporary, ScopeMessage, "ESTREAM", ""}},
		"something new":          {err: transport.Error{Phase: "later", Kind: "odd"}, want: Verdict{Temporary, ScopeServer, "ESOCKET", ""}},
	} {
		t.Run(name, func(t *testing.T) {
			if got := Classify(builtin().Match(tt.host, "ada@gmail.com"), &tt.err); got != tt.want {
				t.Errorf("%+v, want %+v", got, tt.want)
			}
		})
	}
}

// Nothing but a reply of class 5, or what the message itself needs, makes mail fail.
func TestClassify_permanent_only_when_sure(t *testing.T) {
	phases := []transport.Phase{
		transport.PhaseConnect, transport.PhaseTLS, transport.PhaseGreeting, transport.PhaseHello, transport.PhaseSTARTTLS,
		transport.PhaseAuth, transport.PhaseMail, transport.PhaseRcpt, transport.PhaseData, transport.PhaseBody, transport.PhaseMark, transport.PhaseDot,
	}
	for _, phase := range phases {
		for code := range 600 {
			v := Classify(builtin().Match("", ""), &transport.Error{Phase: phase, Code: code, Kind: transport.KindSocket})
			if v.Class != Permanent {
				continue
			}
			if code/100 != 5 || code == 503 || authCode(code) {
				t.Errorf("%s %d is permanent", phase, code)
			}
			switch phase {
			case transport.PhaseMail, transport.PhaseRcpt, transport.PhaseData, transport.PhaseBody, transport.PhaseMark, transport.PhaseDot:
			default:
				t.Errorf("%s %d is permanent", phase, code)
			}
		}
	}
}

func TestParseEnhanced(t *testing.T) {
	for s, want := range map[string][3]int{"5.7.28": {5, 7, 28}, "": {}, "5.1": {}, "5.1.x": {}, "5.1.-1": {}, "5.1.1000": {}} {
		if got := parseEnhanced(s); got != want {
			t.Errorf("%q: %v", s, got)
		}
	}
}
