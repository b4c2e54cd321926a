package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"
)

func runServe(ctx context.Context, p *program, fs *flag.FlagSet) (err error) {
	config := fs.String("config", "", "configuration `file`")
	data := fs.String("data", "", "data `directory`")
	listen := fs.String("listen", "", "`address` of the API")
	roles := fs.String("roles", "", "comma-separated `roles` of this process: "+strings.Join(allRoles(), ", "))
	ephemeral := fs.Bool("ephemeral", false, "keep nothing: Redis is simulated in this process and there is no data directory")
	if err := parse(fs, p.args, 0); err != nil {
		return err
	}
	given := map[string]string{}
	for key, v := range map[string]string{"dataDir": *data, "api.listen": *listen, "roles": *roles} {
		if v != "" {
			given[key] = v
		}
	}
	cfg, err := loadConfig(*config, p, given)
	if err != nil {
		return err
	}
	log := newLogger(p.stderr, cfg.Log.Level, cfg.Log.Format)

	var dir *dataDirectory
	var warnings []string
	errs := cfg.unsafeProblems(*ephemeral)
	if *ephemeral {
		if !cfg.Redis.URL.Empty() {
			errs = append(errs, usagef("redis.url (%s) and --ephemeral exclude each other", cfg.source("redis.url")))
		}
	} else {
		path, err := dataDir(cfg.DataDir, p.getenv)
		if err != nil {
			return usageError{err}
		}
		if dir, err = openDataDir(path); err != nil {
			errs = append(errs, err)
		} else {
			defer func() { err = errors.Join(err, dir.close()) }()
			w, err := cfg.checkFiles(dir)
			warnings, errs = w, append(errs, err)
		}
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}

	// The second signal kills: stop takes our hands off it.
	sigctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
	defer stop()
	d, err := newDaemon(sigctx, cfg, dir, p, log)
	if err != nil {
		return err
	}
	d.warnings = append(warnings, d.warnings...)
	d.thrifty = p.getenv("GOGC") == ""
	return d.until(sigctx, stop, func() error { return d.banner(p, dir) })
}

// until runs a built daemon to its end: a signal, the end of ctx, or a part that fails.
func (d *daemon) until(ctx context.Context, release func(), ready func() error) error {
	if err := d.start(ctx); err != nil {
		d.stop(ctx)
		return err
	}
	for _, w := range d.warnings {
		d.log.Warn(w)
	}
	err := ready()
	if err == nil {
		select {
		case <-ctx.Done():
			d.log.Info("stopping", "cause", context.Cause(ctx))
		case err = <-d.failed:
			d.log.Error("a part failed; stopping", "err", err)
		}
	}
	release()
	d.stop(ctx)
	return err
}

// banner says what runs, and hands out the first token.
func (d *daemon) banner(p *program, dir *dataDirectory) error {
	var b strings.Builder
	line := func(name, format string, a ...any) {
		fmt.Fprintf(&b, "%-8s "+format+"\n", append([]any{name}, a...)...)
	}
	fmt.Fprintf(&b, "postrider %s\n", version)
	if dir == nil {
		line("data", "none: NOTHING IS KEPT (--ephemeral)")
	} else {
		made := ""
		if dir.made {
			made = " (new)"
		}
		line("data", "%s%s", dir.path, made)
	}
	line("redis", "%s", d.redis.about)
	if len(d.cfg.Roles) != len(allRoles()) {
		line("roles", "%s", strings.Join(d.cfg.Roles, ", "))
	}
	if d.web != nil {
		line("api", "%s   docs: /docs   queues: %s/", d.url(), monitorRoot)
	}
	if err := d.leaveCLI(dir); err != nil {
		return err
	}
	if d.token != "" {
		where := "shown once"
		if dir != nil {
			where += ", kept for commands in " + dir.file(cliFile)
		}
		line("token", "%s  all rights, %s", d.token, where)
		line("signing", "%s  signs webhooks, shown once as well", d.hookKey)
	}
	if d.web != nil {
		next := "postrider tail"
		switch {
		case dir == nil:
			next += " --url " + d.url() + " --token …"
		case d.cfg.DataDir != "": // not where tail looks by itself
			next += " --data " + dir.path
		}
		line("next", "%s", next)
	}
	_, err := fmt.Fprint(p.stdout, b.String())
	return err
}

// leaveCLI tells the commands of this data directory where the server is. The token
// stays what it was unless it was just made.
func (d *daemon) leaveCLI(dir *dataDirectory) error {
	if dir == nil || d.web == nil {
		return nil
	}
	path := dir.file(cliFile)
	c, err := readCLI(path)
	if err != nil {
		c = cliAccess{} // missing, or not ours to repair
	}
	c.URL = d.url()
	if d.token != "" {
		c.Token, c.WebhookSecret = d.token, d.hookKey
	}
	return writeCLI(path, c)
}
