// Package hooktest is a webhook receiver for tests and the demo: one that records what it
// was sent, and answers as it is told, misbehaviour included.
//
// A [Receiver] owns its listener on 127.0.0.1 and the goroutines of its HTTP server; Close
// ends all of them, hanging answers too. [Memory] is a network of pipes that works in
// synctest bubbles, where sockets do not.
package hooktest
