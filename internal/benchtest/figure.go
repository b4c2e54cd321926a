package benchtest

import (
	"encoding/json"
	"fmt"
	"os"
	"testing"
	"time"
)

// Figure is one measured number, as a line of bench.jsonl: value in unit, and its ratio
// to a plain thing measured in the same run.
type Figure struct {
	Name     string  `json:"name"`
	Value    float64 `json:"value"`
	Unit     string  `json:"unit"`
	Baseline string  `json:"baseline"` // what ratio compares with; "" = nothing
	Ratio    float64 `json:"ratio"`

	// What we want: value at least or at most that, or ratio at most that; 0 = no aim.
	Least     float64 `json:"least,omitempty"`
	Most      float64 `json:"most,omitempty"`
	MostRatio float64 `json:"mostRatio,omitempty"`
}

// Missed says whether an aim was not reached.
func (f Figure) Missed() bool {
	return f.Value < f.Least || f.Most > 0 && f.Value > f.Most || f.MostRatio > 0 && f.Ratio > f.MostRatio
}

// Report prints a figure and appends it to the file that POSTRIDER_BENCH_OUT names. A
// missed aim is printed as such; it fails nothing, since another machine may reach it.
func (f Figure) Report(tb testing.TB) {
	tb.Helper()
	line, err := json.Marshal(f)
	if err != nil {
		tb.Fatal(err)
	}
	// Not by Logf: of a benchmark's log ten lines are shown.
	fmt.Printf("%-48s %12.3f %-9s%s\n", f.Name, f.Value, f.Unit, f.aim())
	if f.Baseline != "" {
		fmt.Printf("%-48s %12.3f × %s%s\n", "", f.Ratio, f.Baseline, aim(f.Ratio, f.MostRatio))
	}
	path := os.Getenv("POSTRIDER_BENCH_OUT")
	if path == "" {
		return
	}
	out, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		tb.Fatal(err)
	}
	defer out.Close()
	if _, err := out.Write(append(line, '\n')); err != nil {
		tb.Fatal(err)
	}
}

// aim says of a value what was wanted and whether it was reached.
func (f Figure) aim() string {
	switch {
	case f.Least == 0:
		return aim(f.Value, f.Most)
	case f.Value < f.Least:
		return fmt.Sprintf(" (aim %g: MISSED)", f.Least)
	}
	return fmt.Sprintf(" (aim %g)", f.Least)
}

func aim(v, most float64) string {
	switch {
	case most == 0:
		return ""
	case v > most:
		return fmt.Sprintf(" (aim %g: MISSED)", most)
	}
	return fmt.Sprintf(" (aim %g)", most)
}

// Quantile of ascending values.
func Quantile(v []time.Duration, q float64) time.Duration { return v[int(q*float64(len(v)-1))] }

// MS is a duration in milliseconds.
func MS(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
