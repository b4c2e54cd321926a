package redact_test

import (
	"fmt"

	"github.com/postrider/postrider/internal/redact"
)

func Example() {
	r := redact.New("correct-horse")
	fmt.Println(r.Hide(`NO [AUTHENTICATIONFAILED] wrong: "correct-h..." (Y29ycmVjdC1ob3JzZQ==)`))
	// Output: NO [AUTHENTICATIONFAILED] wrong: "***..." (***)
}
