package api

import (
	"encoding/json"
	"time"

	"github.com/postrider/postrider/store"
)

// ShownForTest is a submission as the API shows it.
func ShownForTest(m store.Submission, sp store.Spool, now time.Time) map[string]any {
	b, err := json.Marshal(showSubmission(&m, sp, now))
	if err != nil {
		panic(err)
	}
	out := map[string]any{}
	if err := json.Unmarshal(b, &out); err != nil {
		panic(err)
	}
	return out
}
