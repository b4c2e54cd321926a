package events

import (
	"encoding/json"
	"fmt"
	"reflect"
)

// payloads holds one zero payload per event: the list of all events there are.
var payloads = []Payload{
	MessageNew{},
	MessageUpdated{},
	MessageDeleted{},
	MessageMoved{},
	MessageMissing{},
	MessageQueued{},
	MessageSent{},
	MessageDeliveryError{},
	MessageFailed{},
	MessageHeld{},
	MailboxNew{},
	MailboxDeleted{},
	MailboxRenamed{},
	MailboxReset{},
	MailboxStalled{},
	MailboxRecovered{},
	AccountAdded{},
	AccountInitialized{},
	AccountDeleted{},
	AccountPaused{},
	AccountResumed{},
	AccountStateLost{},
	AccountStalled{},
	AccountRecovered{},
	AuthenticationSuccess{},
	AuthenticationError{},
	ConnectError{},
	SendLimitApproaching{},
	SendLimitExceeded{},
	WebhookFailing{},
	WebhookPaused{},
	WebhookResumed{},
	WebhookAuthFailing{},
	WebhookRecovered{},
	WebhookExhausted{},
	WebhookDropped{},
}

// All lists the events there are, grouped by what they are about.
func All() []Type {
	all := make([]Type, len(payloads))
	for i, p := range payloads {
		all[i] = p.EventType()
	}
	return all
}

// Known says whether t is an event of ours.
func Known(t Type) bool { return payloadOf(t) != nil }

func payloadOf(t Type) Payload {
	for _, p := range payloads {
		if p.EventType() == t {
			return p
		}
	}
	return nil
}

// Decode reads the payload of an event that was read back: the struct of its type.
// Fields that this version does not know are left out. An event whose payload is
// typed already is decoded as it is.
func Decode(e Event) (Payload, error) {
	raw, ok := e.Data.(Raw)
	if !ok {
		return e.Data, nil
	}
	zero := payloadOf(e.Type)
	if zero == nil {
		return nil, fmt.Errorf("event %q: unknown type", e.Type)
	}
	v := reflect.New(reflect.TypeOf(zero))
	if err := json.Unmarshal(raw, v.Interface()); err != nil {
		return nil, fmt.Errorf("event %s: %w", e.Type, err)
	}
	return v.Elem().Interface().(Payload), nil
}
