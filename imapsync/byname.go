package imapsync

import (
	"context"
	"math/rand/v2"
	"slices"
)

// byNameMost is how many messages are asked for by name before they are told to be gone;
// of more it is as many, at random.
const byNameMost = 1000

// there asks for messages that are said to be gone by name, and says whether one of them
// comes. What they were said by may hang on the same mistake as the number that it is held
// against: a VANISHED that was pushed counts EXISTS down itself.
func (s *step) there(ctx context.Context, gone []uint32) (bool, error) {
	if len(gone) == 0 {
		return false, nil
	}
	if len(gone) > byNameMost {
		gone = slices.Clone(gone)
		rand.Shuffle(len(gone), func(i, j int) { gone[i], gone[j] = gone[j], gone[i] })
		gone = gone[:byNameMost]
		slices.Sort(gone)
	}
	got, err := s.w.sess.Flags(ctx, uidSet(gone))
	if err != nil && !refusesQuestion(err) { // some say NO to a set of which nothing is left
		return false, err
	}
	return len(got.Flags) > 0, nil
}
