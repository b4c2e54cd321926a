package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/postrider/postrider/api"
	"github.com/postrider/postrider/imapsync"
	"github.com/postrider/postrider/internal/egress"
	"github.com/postrider/postrider/smtpsend"
	"github.com/postrider/postrider/smtpsend/transport"
	"github.com/postrider/postrider/store"
)

// buildSender makes what the roles api (which queues) and send need.
func (d *daemon) buildSender(guard *egress.Guard) (err error) {
	s := d.cfg.Send
	d.pool = transport.NewPool(transport.Options{
		Dial: guard.DialContext, AllowPlaintext: d.cfg.Mail.AllowPlaintext, AllowInsecureTLS: d.cfg.Mail.AllowInsecureTLS, EHLOName: s.EHLOName,
		Timeouts: transport.Timeouts{
			Connect: s.Timeouts.Connect, TLS: s.Timeouts.TLS, Greeting: s.Timeouts.Greeting, Command: s.Timeouts.Command, Mail: s.Timeouts.Mail,
			Rcpt: s.Timeouts.Rcpt, Data: s.Timeouts.Data, Block: s.Timeouts.Block, Dot: s.Timeouts.Dot, Transaction: s.Timeouts.Transaction,
		},
	})
	profiles, err := smtpsend.NewProfiles(string(s.Providers))
	if err != nil {
		return fmt.Errorf("send.providers: %w", err)
	}
	for state, count := range map[string]func(transport.Stats) int{
		"idle": func(s transport.Stats) int { return s.Idle },
		"busy": func(s transport.Stats) int { return s.Busy },
	} {
		if err := d.registry.Register(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "postrider_send_connections", Help: "Connections of this process to submission servers.", ConstLabels: prometheus.Labels{"state": state},
		}, func() float64 { return float64(count(d.pool.Stats())) })); err != nil {
			return err
		}
	}
	live := imapsync.ActorOptions{Store: d.store, Dialer: d.dialer, Kick: d.kick, Log: d.log}
	if d.manager != nil {
		live.Pace = d.manager.Pace
	}
	d.actor = imapsync.NewActor(live)
	box := mailbox{d.actor}
	d.sender, err = smtpsend.New(smtpsend.Options{
		Store: d.store, Redis: d.redis.client, Transport: d.pool, Reader: box, Mailbox: box, Profiles: profiles,
		Instance: d.instance, Logger: d.log, Registerer: d.registry,
		Config: smtpsend.Config{
			Concurrency: s.Concurrency, MaxRecipients: s.MaxRecipients, MaxMessageSize: int64(s.MaxMessageSize), MaxAge: s.MaxAge, IDHeader: s.IDHeader,
			Outbox:   store.OutboxLimits{Bytes: int64(s.MaxQueuedBytes), AccountBytes: int64(s.MaxAccountBytes), AccountRows: s.MaxAccountQueued},
			KeepSent: s.Keep.Sent, KeepFailed: s.Keep.Failed, KeepUnknown: s.Keep.Unknown,
		},
	})
	return err
}

// kick has an account looked at soon, by whichever process holds it. It is one message to
// Redis, and worth no more than a second's wait: the account is looked at anyway.
func (d *daemon) kick(id store.AccountID) {
	ctx, stop := context.WithTimeout(context.Background(), time.Second)
	defer stop()
	if err := d.store.Kick(ctx, id); err != nil {
		d.log.Debug("kick", "account", id, "err", err)
	}
}

// closeSender ends connections; nothing is under way on them any more.
func (d *daemon) closeSender() {
	if d.sender == nil {
		return
	}
	d.actor.Close()
	d.pool.Close()
}

// smtpVerifier tries a submission server for package api: it logs in and leaves.
type smtpVerifier struct{ pool *transport.Pool }

// VerifySMTP implements api.SMTPVerifier.
func (v smtpVerifier) VerifySMTP(ctx context.Context, s store.Server, ehloName string) api.VerifyResult {
	offer, err := v.pool.Check(ctx, smtpsend.ServerOf(s, ehloName))
	if err == nil {
		plan := []string{"TLS"}
		if !offer.Secure {
			plan = []string{"no TLS: what is sent can be read on the way"}
		}
		if offer.MaxSize > 0 {
			plan = append(plan, fmt.Sprintf("messages up to %d MiB", offer.MaxSize>>20))
		}
		return api.VerifyResult{Success: true, Capabilities: offer.Extensions, Plan: plan}
	}
	r := api.VerifyResult{Error: "the server cannot be used", Kind: "serverDown"}
	e, ok := errors.AsType[*transport.Error](err)
	if !ok {
		return r
	}
	verdict := smtpsend.Classify(smtpsend.Profile{}, e)
	r.Code, r.ResponseText = verdict.ErrorCode, e.Line
	switch {
	case verdict.Hint == smtpsend.HintCredentials:
		r.Kind, r.Class = "authDead", "credentials"
		r.Error, r.Action = "the server refuses the login", "Check user and password; many providers want an app password or OAuth 2.0."
	case verdict.Hint == smtpsend.HintTLS:
		r.Kind, r.Class = "tls", "tls"
		r.Error, r.Action = "no encryption that can be trusted", "Check host, port and secure: 465 is TLS from the first byte (secure: true), 587 is STARTTLS."
	case e.Kind == transport.KindDNS:
		r.Class, r.Error, r.Action = "dns", "the host name cannot be resolved", "Check the host name."
	case e.Kind == transport.KindTimeout:
		r.Class, r.Error, r.Action = "timeout", "the server does not answer in time", "Check host and port, and whether a firewall is in between."
	case e.Kind == transport.KindConnect:
		r.Class, r.Error, r.Action = "refused", "no connection", "Check host and port, and that mail.egress allows them."
	case e.Code > 0:
		r.Class, r.Error = "greeting", "the server refuses us"
	default:
		r.Class, r.Error = "network", "the connection broke"
	}
	if e.Err != nil && r.ResponseText == "" && r.Class == "tls" {
		r.ResponseText = strings.TrimSpace(e.Err.Error())
	}
	return r
}
