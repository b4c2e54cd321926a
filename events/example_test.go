package events_test

import (
	"fmt"
	"time"

	"github.com/postrider/postrider/events"
)

func ExampleEvent_Encode() {
	e := events.Event{
		Account: "support", Path: "INBOX", Seq: 7, Type: events.MessageDeletedType,
		Date: events.TimeOf(time.Date(2026, 11, 22, 8, 15, 2, 0, time.UTC)),
		ID:   events.NewID("support", 1795305600000, events.MessageDeletedType, "1", "INBOX", "1712000000", "0", "4711"),
		Data: events.MessageDeleted{ID: "AAAAAQAAEmc", UID: 4711},
	}
	b, err := e.Encode()
	fmt.Println(string(b), err)
	// Output: {"serviceUrl":null,"account":"support","date":"2026-11-22T08:15:02.000Z","path":"INBOX","event":"messageDeleted","eventId":"evt_vdjfgnkymbt7zbztn2upfg2gdu","seq":7,"data":{"id":"AAAAAQAAEmc","uid":4711}} <nil>
}

func ExampleNewID() {
	// the same facts give the same id, whoever finds them and however often
	fmt.Println(events.NewID("support", 1795305600000, events.MessageNewType, "1", "INBOX", "1712000000", "0", "4711"))
	// Output: evt_erxaxk2nrrq3jcwqtfalueygna
}
