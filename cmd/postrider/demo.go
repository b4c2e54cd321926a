package main

import (
	"context"
	"errors"
	"flag"
)

func runDemo(_ context.Context, p *program, fs *flag.FlagSet) error {
	if err := parse(fs, p.args, 0); err != nil {
		return err
	}
	return errors.New("wip")
}
