package imapsync

import (
	"fmt"
	"testing"
	"time"

	"github.com/postrider/postrider/store"
)

// A folder of which all is lost refuses to be opened: what is written of that is not taken
// for what is known of it.
func TestReset_of_a_lost_folder_that_refuses(t *testing.T) {
	bubble(t, true, func(d *den) {
		d.lived()
		num := d.numbers()["INBOX"]
		d.down()
		for _, kind := range []string{"f", "b"} {
			d.mini.Del(fmt.Sprintf("{s%02d}:a:%s:%s:%d", store.Shard(denAccount), denAccount, kind, num))
		}
		d.srv.act(func() { d.srv.refused["INBOX"] = true })
		d.up()
		d.pass(10 * time.Second)
		d.down()
		d.srv.act(func() { clear(d.srv.refused) })
		d.up()
		d.pass(3 * time.Minute)
		d.expect("mailboxReset INBOX syncStateLost")
	})
}
