package smtptest

import (
	"testing"
)

func TestPostfixStarts(t *testing.T) {
	p := StartPostfix(t, PostfixOptions{Users: map[string]string{"jo": "secret"}})
	t.Log(p.Port, p.Log())
}
