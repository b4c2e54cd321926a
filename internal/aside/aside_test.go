package aside_test

import (
	"runtime"
	"strings"
	"testing"

	"github.com/postrider/postrider/internal/aside"
)

func TestDo(t *testing.T) {
	t.Run("returns behind its function", func(t *testing.T) {
		n := 0
		aside.Do(func() { n = 1 })
		if n != 1 {
			t.Error("it returned before its function")
		}
	})
	t.Run("a panic is the caller's", func(t *testing.T) {
		defer func() {
			p := recover()
			if _, ok := p.(error); !ok || p.(error).Error() != "burst" {
				t.Fatalf("recovered %v, not the panic", p)
			}
			if stack := string(aside.StackOf(p)); !strings.Contains(stack, "aside_test.burst") {
				t.Errorf("the stack does not say where it was:\n%s", stack)
			}
		}()
		aside.Do(burst)
		t.Error("no panic came")
	})
	t.Run("a panic in one within another says where it was", func(t *testing.T) {
		defer func() {
			if stack := string(aside.StackOf(recover())); !strings.Contains(stack, "aside_test.burst") {
				t.Errorf("the stack does not say where it was:\n%s", stack)
			}
		}()
		aside.Do(func() { aside.Do(burst) })
	})
	t.Run("its goroutine's end is the caller's", func(t *testing.T) {
		went := false
		done := make(chan struct{})
		go func() {
			defer close(done)
			aside.Do(runtime.Goexit)
			went = true
		}()
		if <-done; went {
			t.Error("the caller went on as if its function had returned")
		}
	})
}

func burst() { panic("burst") }
