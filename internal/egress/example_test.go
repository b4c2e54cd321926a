package egress_test

import (
	"fmt"

	"github.com/postrider/postrider/internal/egress"
)

func ExampleGuard_CheckURL() {
	guard, err := egress.New(egress.Policy{Name: egress.Public, Allow: []string{"192.168.7.0/24:8443"}})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(guard.CheckURL("https://hooks.example.com/mail"))
	fmt.Println(guard.CheckURL("https://192.168.7.20:8443/mail"))
	fmt.Println(guard.CheckURL("https://169.254.169.254/latest/meta-data/"))
	// Output:
	// <nil>
	// <nil>
	// address not allowed by egress.policy
}
