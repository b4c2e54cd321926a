package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"text/tabwriter"
)

func runCheckConfig(_ context.Context, p *program, fs *flag.FlagSet) error {
	file := fs.String("config", "", "configuration `file`")
	show := fs.Bool("show", false, "print every key, its value (secrets masked) and where it comes from")
	if err := parse(fs, p.args, 0); err != nil {
		return err
	}
	l, err := loadConfig(*file, p, nil)
	if err != nil {
		return err
	}
	if *show {
		w := tabwriter.NewWriter(p.stdout, 0, 8, 2, ' ', 0)
		for _, f := range l.fields() {
			fmt.Fprintf(w, "%s\t%s\t%s\n", f.key, f.show(), l.source(f.key))
		}
		if err := w.Flush(); err != nil {
			return err
		}
	}
	errs := l.unsafeProblems(false)
	if l.secretsInFile {
		errs = append(errs, checkPrivate(l.file, "secrets"))
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	where := "no configuration file: defaults and environment"
	if l.file != "" {
		where = l.file
	}
	_, err = fmt.Fprintf(p.stderr, "ok (%s)\n", where)
	return err
}
