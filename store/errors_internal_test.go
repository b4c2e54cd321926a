package store

import (
	"errors"
	"io"
	"testing"

	"github.com/redis/go-redis/v9"
)

// redisError is an error as Redis answers it.
type redisError string

func (e redisError) Error() string { return string(e) }
func (redisError) RedisError()     {}

var _ redis.Error = redisError("")

func TestUnavailable(t *testing.T) {
	for err, want := range map[error]bool{
		io.EOF: true,
		redisError("LOADING Redis is loading the dataset in memory"):                                   true,
		redisError("OOM command not allowed when used memory > 'maxmemory'."):                          true,
		redisError("BUSY Redis is busy running a script."):                                             true,
		redisError("NOREPLICAS Not enough good replicas to write."):                                    true,
		redisError("ERR max number of clients reached"):                                                true,
		redisError("ERR Error running script (call to f_1): @user_script:1: -OOM command not allowed"): true,
		redisError("ERR Error running script (call to f_1): @user_script:1: attempt to index a nil"):   false,
		redisError("WRONGTYPE Operation against a key holding the wrong kind of value"):                false,
		errors.New("something else"):                                                                   false,
	} {
		if got := errors.Is(unavailable("try", err), ErrUnavailable); got != want {
			t.Errorf("%v: %v", err, got)
		}
	}
}
