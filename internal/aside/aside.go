// Package aside keeps the stacks of goroutines that wait for long small. A stack grows to
// what the deepest call needs, and hardly ever shrinks again: what thousands of waiting
// goroutines keep of it is more than all else they have.
//
// It owns the goroutine of each [Do], which ends before that returns.
package aside

import (
	"fmt"
	"runtime"
	"runtime/debug"
)

// Panic is what [Do] panics with when its function did.
type Panic struct {
	Value any
	Stack []byte // where it happened
}

// Error is the value alone: the stack is for logs.
func (p *Panic) Error() string { return fmt.Sprint(p.Value) }

// Do runs f on a goroutine of its own and returns when it has ended, so that the stack
// f needs is not kept by the caller. A panic in it is one of the caller's, with a [Panic].
func Do(f func()) {
	var panicked *Panic
	returned := false
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer func() {
			switch v := recover().(type) {
			case nil:
			case *Panic: // of a Do within
				panicked = v
			default:
				panicked = &Panic{Value: v, Stack: debug.Stack()}
			}
		}()
		f()
		returned = true
	}()
	<-done
	switch {
	case panicked != nil:
		panic(panicked)
	case !returned:
		runtime.Goexit() // f did
	}
}

// StackOf is where a recovered panic happened; it is called by the function that recovers.
func StackOf(recovered any) []byte {
	if p, ok := recovered.(*Panic); ok {
		return p.Stack
	}
	return debug.Stack()
}
