package message_test

import (
	"fmt"

	"github.com/postrider/postrider/internal/message"
)

func ExampleParse() {
	raw := "Subject: =?iso-8859-1?q?Gr=FC=DFe?=\nContent-Type: multipart/alternative; boundary=x\n\n" +
		"--x\nContent-Transfer-Encoding: quoted-printable\nContent-Type: text/plain; charset=utf-8\n\nbis sp=C3=A4ter\n--x--\n"
	var w message.Warnings
	m := message.Parse([]byte(raw), &w)
	c := message.Choose(m.Root, 100)
	text, more := message.Text(c.Plain, c.Plain.Body, false, 1000, &w)
	fmt.Println(message.Words(m.Header.First("subject"), &w))
	fmt.Println(text, more, len(w))
	// Output:
	// Grüße
	// bis später false 0
}
