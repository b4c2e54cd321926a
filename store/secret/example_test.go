package secret_test

import (
	"fmt"

	"github.com/postrider/postrider/store/secret"
)

func ExampleKeyring() {
	ring, err := secret.NewKeyring(make([]byte, secret.KeySize))
	if err != nil {
		fmt.Println(err)
		return
	}
	sealed := ring.Seal(secret.New("hunter2"), "support", "imap.pass")
	text, err := ring.Open(sealed, "support", "imap.pass")
	fmt.Println(text, text.Reveal(), err)
	// Output: ****** hunter2 <nil>
}
