package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"runtime"
	"runtime/debug"
)

// version is what this source is released as.
const version = "0.1.0"

type buildInfo struct {
	Version  string `json:"version"`
	Commit   string `json:"commit,omitempty"`
	Date     string `json:"date,omitempty"`
	Modified bool   `json:"modified,omitempty"` // built from a tree with changes of its own
	Go       string `json:"go"`
	Platform string `json:"platform"`
}

func readBuildInfo() buildInfo {
	b := buildInfo{Version: version, Go: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return b
	}
	for _, s := range info.Settings {
		switch s.Key {
		case "vcs.revision":
			b.Commit = s.Value
		case "vcs.time":
			b.Date = s.Value
		case "vcs.modified":
			b.Modified = s.Value == "true"
		}
	}
	return b
}

func runVersion(_ context.Context, p *program, fs *flag.FlagSet) error {
	asJSON := fs.Bool("json", false, "as one JSON object")
	if err := parse(fs, p.args, 0); err != nil {
		return err
	}
	b := readBuildInfo()
	if *asJSON {
		return json.NewEncoder(p.stdout).Encode(b)
	}
	commit := ""
	if b.Commit != "" {
		commit = fmt.Sprintf(" (%.12s, %s)", b.Commit, b.Date)
	}
	_, err := fmt.Fprintf(p.stdout, "postrider %s%s %s %s\n", b.Version, commit, b.Go, b.Platform)
	return err
}
