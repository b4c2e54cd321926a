package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"golang.org/x/term"
)

// Exit codes, api.md section 12.
const (
	exitDone        = 0
	exitFailed      = 1
	exitUsage       = 2
	exitUnsafe      = 3
	exitInterrupted = 130
)

// usageError is a wrong command line or configuration.
type usageError struct{ err error }

func (e usageError) Error() string { return e.err.Error() }
func (e usageError) Unwrap() error { return e.err }

func usagef(format string, a ...any) error { return usageError{fmt.Errorf(format, a...)} }

// unsafeError is a refusal to start: what is unsafe, and how to mend it.
type unsafeError struct {
	what, mend string
	err        error // may be nil
}

func (e unsafeError) Error() string {
	s := e.what
	if e.err != nil {
		s += ": " + e.err.Error()
	}
	return s + "\n  " + e.mend
}
func (e unsafeError) Unwrap() error { return e.err }

// exitCode maps what a command returned to what the shell sees.
func exitCode(err error) int {
	if code, ok := errors.AsType[exitStatus](err); ok {
		return int(code)
	}
	if _, ok := errors.AsType[unsafeError](err); ok {
		return exitUnsafe
	}
	if _, ok := errors.AsType[usageError](err); ok {
		return exitUsage
	}
	switch {
	case err == nil, errors.Is(err, flag.ErrHelp):
		return exitDone
	case errors.Is(err, context.Canceled):
		return exitInterrupted
	}
	return exitFailed
}

// exitStatus is the status of a command that we ran for the user; it becomes ours.
type exitStatus int

func (e exitStatus) Error() string { return fmt.Sprintf("exit status %d", int(e)) }

// program is what a command gets of the world.
type program struct {
	args   []string
	env    []string // NAME=value
	stdin  io.Reader
	stdout io.Writer
	stderr io.Writer
}

func (p *program) getenv(name string) string {
	for _, kv := range slices.Backward(p.env) {
		if k, v, ok := strings.Cut(kv, "="); ok && k == name {
			return v
		}
	}
	return ""
}

type command struct {
	name, args, about, example string
	run                        func(context.Context, *program, *flag.FlagSet) error
}

func commands() []command {
	return []command{
		{"serve", "[flags]", "watch the registered accounts and deliver their events", "postrider serve --data ./data", runServe},
		{"demo", "[flags]", "show it all with mail servers and a receiver in this process; nothing is kept", "postrider demo", runDemo},
		{"tail", "[flags]", "print events as they happen", "postrider tail --account jo --events 'message*'", runTail},
		{"send", "--account A --to X [flags]", "send a message whose text comes by standard input, and tell what becomes of it", "echo Hello | postrider send --account jo --to ann@example.net --subject Hi", runSend},
		{"token", "create|list|revoke", "make, list and revoke API tokens, with the server running or not", "postrider token create --scopes accounts,events --description crm", runToken},
		{"check-config", "[--show]", "say everything that is wrong with the configuration", "postrider check-config --show", runCheckConfig},
		{"openapi", "[--yaml]", "print the OpenAPI document of the HTTP API", "postrider openapi > openapi.json", runOpenAPI},
		{"version", "[--json]", "print the version", "postrider version --json", runVersion},
	}
}

// run is the program: it returns the exit code.
func run(ctx context.Context, args, env []string, stdin io.Reader, stdout, stderr io.Writer) int {
	if len(args) == 0 {
		usage(stderr)
		return exitUsage
	}
	if args[0] == "-h" || args[0] == "--help" || args[0] == "help" {
		usage(stdout)
		return exitDone
	}
	for _, c := range commands() {
		if c.name != args[0] {
			continue
		}
		p := &program{args: args[1:], env: env, stdin: stdin, stdout: stdout, stderr: stderr}
		fs := flag.NewFlagSet(c.name, flag.ContinueOnError)
		fs.SetOutput(io.Discard) // parse returns what is wrong; help is printed below
		err := c.run(ctx, p, fs)
		if errors.Is(err, flag.ErrHelp) {
			help(stdout, c, fs)
			return exitDone
		}
		if code := exitCode(err); err != nil {
			if _, quiet := errors.AsType[exitStatus](err); !quiet && code != exitInterrupted {
				fmt.Fprintf(stderr, "postrider %s: %v\n", c.name, err)
			}
			return code
		}
		return exitDone
	}
	var names []string
	for _, c := range commands() {
		names = append(names, c.name)
	}
	fmt.Fprintf(stderr, "postrider: there is no command %q%s\n\n", args[0], nearest(slices.Values(names), args[0]))
	usage(stderr)
	return exitUsage
}

func usage(w io.Writer) {
	fmt.Fprintf(w, "Postrider tells an application about every message in its users' mailboxes.\n\nusage: postrider <command> [flags]\n\n")
	for _, c := range commands() {
		fmt.Fprintf(w, "  %-13s %s\n", c.name, c.about)
	}
	fmt.Fprintf(w, "\npostrider <command> -h shows its flags and an example.\n")
}

// help prints what was asked for with -h: the flags that the command has defined.
func help(w io.Writer, c command, fs *flag.FlagSet) {
	fmt.Fprintf(w, "usage: postrider %s %s\n\n%s\n\n", c.name, c.args, c.about)
	fs.SetOutput(w)
	fs.PrintDefaults()
	fmt.Fprintf(w, "\nexample: %s\n", c.example)
}

// parse reads flags and refuses what is left over, unless rest allows it.
func parse(fs *flag.FlagSet, args []string, rest int) error {
	if err := fs.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return err
		}
		return usagef("%w; postrider %s -h shows the flags", err, fs.Name())
	}
	if fs.NArg() > rest {
		return usagef("%q is one argument too many", fs.Arg(rest))
	}
	return nil
}

// isTerminal says whether a person reads or types there.
func isTerminal(f any) bool {
	file, ok := f.(*os.File)
	return ok && term.IsTerminal(int(file.Fd()))
}
