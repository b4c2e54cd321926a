package events

import "testing"

// The vectors of the identifier's definition.
func TestNewID(t *testing.T) {
	const epoch = 1795305600000
	for _, tt := range []struct {
		got, want ID
	}{
		{NewID("support", epoch, MessageNewType, "1", "INBOX", "1712000000", "0", "4711"), "evt_erxaxk2nrrq3jcwqtfalueygna"},
		{NewID("support", epoch, MessageSentType, "01kf2v7q3m8w5x9d4e6r1t0yza", "1"), "evt_vwx6o536lyz7jqxkerbsysxcey"},
		{NewID("", 0, WebhookPausedType, "whr_crm", Uint(uint32(17))), "evt_jkot7kbjcsyz55elwbds23tf3a"},
	} {
		if tt.got != tt.want {
			t.Errorf("got %s, want %s", tt.got, tt.want)
		}
	}
}
