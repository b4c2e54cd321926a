package transport

import (
	"bufio"
	"context"
	"errors"
	"io"
	"sync"
	"time"
)

// bodyBuffer is what a body is written in: a TLS record's worth.
const bodyBuffer = 16 << 10

// earlyTimeout is what a reply that came before the end of the body gets to arrive.
const earlyTimeout = time.Second

// transact hands one message over. The connection may be used again where c.lost is
// false. See Pool.Send.
func (c *conn) transact(ctx context.Context, env *Envelope, body func(io.Writer) error, mark func(context.Context, []string) error) (Receipt, *Error) {
	c.answered = false
	began := time.Now()
	if e := c.able(env); e != nil {
		return Receipt{}, e
	}
	stop := c.guard(ctx)
	defer func() { c.lost = !stop() || c.lost }()
	if e := c.reset(ctx); e != nil {
		return Receipt{}, e
	}
	rcpts, e := c.envelope(ctx, env)
	if e == nil {
		var r reply
		if r, e = c.data(ctx, body, rcpts.accepted, mark); e == nil {
			return Receipt{
				Response: r.line(), Code: r.code, Accepted: rcpts.accepted, Refused: rcpts.refused, TooMany: rcpts.tooMany,
				Secure: c.secure, DSNUnsupported: env.DSN.wanted() && !c.has("DSN"), MaxSize: c.maxSize(), Duration: time.Since(began),
			}, nil
		}
	}
	e.Accepted, e.Refused, e.TooMany = rcpts.accepted, rcpts.refused, rcpts.tooMany
	return Receipt{}, e
}

// reset ends a transaction that was aborted.
func (c *conn) reset(ctx context.Context) *Error {
	if !c.dirty {
		return nil
	}
	s := step{PhaseMail, "RSET", c.o.Timeouts.Command}
	r, e := c.command(ctx, s, "RSET")
	if e == nil && r.code/100 != 2 {
		c.lost = true
		e = c.refuse(s, r)
	}
	c.dirty = e != nil
	return e
}

// recipients is what became of those of an envelope.
type recipients struct {
	accepted []string
	refused  []Refusal
	tooMany  []string
}

// envelope says MAIL and every RCPT: in one write where PIPELINING is offered, else one by
// one. Without an error at least one recipient was accepted.
func (c *conn) envelope(ctx context.Context, env *Envelope) (out recipients, e *Error) {
	mail := step{PhaseMail, "MAIL", c.o.Timeouts.Mail}
	rcpt := step{PhaseRcpt, "RCPT", c.o.Timeouts.Rcpt}
	pipelined := c.has("PIPELINING")
	send := c.command
	if pipelined {
		lines := []byte(c.mailLine(env) + "\r\n")
		for _, to := range env.To {
			lines = append(lines, c.rcptLine(env, to)+"\r\n"...)
		}
		// RFC 2920 section 3.1: who does not read while he writes may wait for a server
		// that waits for him.
		var wrote sync.WaitGroup
		var err error
		wrote.Go(func() {
			if _, err = c.Write(lines); err != nil {
				_ = c.raw.Close()
			}
		})
		defer func() {
			if c.lost {
				c.close() // who still writes is not waited for
			}
			wrote.Wait()
			if err != nil && (e == nil || e.Code == 0) {
				e = c.fail(ctx, mail, err)
			}
		}()
		send = func(ctx context.Context, s step, _ string) (reply, *Error) { return c.reply(ctx, s) }
	}

	r, e := send(ctx, mail, c.mailLine(env))
	if e != nil {
		return out, e
	}
	c.answered = r.code != 421
	if c.answered {
		c.dirty = pipelined || r.code/100 == 2
	}
	if r.code/100 != 2 {
		e = c.refuse(mail, r)
		for range env.To {
			if pipelined && !c.lost {
				_, _ = c.reply(ctx, rcpt) // they follow, whatever they are
			}
		}
		return out, e
	}
	var first *Error
	for i, to := range env.To {
		r, e := send(ctx, rcpt, c.rcptLine(env, to))
		if e != nil {
			return out, e
		}
		switch {
		case r.code/100 == 2:
			out.accepted = append(out.accepted, to)
			continue
		case r.code == 421, r.code == 503, r.code/100 == 3:
			return out, c.refuse(rcpt, r)
		case len(out.accepted) > 0 && tooMany(r):
			if !pipelined {
				out.tooMany = env.To[i:]
				return out, nil // the rest would hear the same
			}
			out.tooMany = append(out.tooMany, to)
			continue
		}
		if first == nil {
			first = c.refuse(rcpt, r)
		}
		out.refused = append(out.refused, Refusal{Recipient: to, Response: r.line(), Code: r.code, Enhanced: enhancedText(r.enhanced)})
	}
	if len(out.accepted) == 0 {
		return out, first
	}
	return out, nil
}

// tooMany says whether a refusal means that this transaction has recipients enough
// (RFC 5321 section 4.5.3.1.10, RFC 3463's X.5.3).
func tooMany(r reply) bool {
	return r.code == 452 && r.enhanced[0] == 0 || r.enhanced[1] == 5 && r.enhanced[2] == 3
}

// data sends the body and, once mark agrees, the dot. Its reply is a success.
func (c *conn) data(ctx context.Context, body func(io.Writer) error, accepted []string, mark func(context.Context, []string) error) (reply, *Error) {
	data := step{PhaseData, "DATA", c.o.Timeouts.Data}
	r, e := c.command(ctx, data, "DATA")
	if e != nil {
		return reply{}, e
	}
	if r.code != 354 {
		return reply{}, c.refuse(data, r)
	}
	c.dirty = false // from here it ends by a reply to the dot, or with the connection
	if e := c.body(ctx, body); e != nil {
		c.close()
		return reply{}, e
	}
	if mark != nil {
		if err := mark(ctx, accepted); err != nil {
			c.close()
			e := fault(ctx, PhaseMark, "", err)
			e.Kind, e.Err = KindLocal, err
			return reply{}, e
		}
	}
	dot := step{PhaseDot, "DATA", c.o.Timeouts.Dot}
	if ctx.Err() != nil { // it may have ended while mark ran
		return reply{}, c.fail(ctx, dot, ctx.Err())
	}
	before := c.raw.written.Load()
	if _, err := c.Write([]byte(".\r\n")); err != nil {
		e := c.fail(ctx, dot, err)
		e.Unknown = c.raw.written.Load() != before // else the kernel took none of it
		return reply{}, e
	}
	if r, e = c.reply(ctx, dot); e != nil {
		e.Unknown = true
		return reply{}, e
	}
	switch r.code / 100 {
	case 2:
		c.messages++
		c.lost = c.lost || c.r.Buffered() > 0 // nobody asked for more
		return r, nil
	case 4, 5:
		c.messages++
		return reply{}, c.refuse(dot, r)
	}
	c.close()
	e = c.refuse(dot, r)
	e.Unknown = true
	return reply{}, e
}

// body writes all but the dot.
func (c *conn) body(ctx context.Context, body func(io.Writer) error) *Error {
	s := step{PhaseBody, "DATA", earlyTimeout}
	w := &dotWriter{w: bufio.NewWriterSize(c, bodyBuffer)}
	err := body(w)
	if err == nil {
		err = w.end()
	}
	switch {
	case err == nil:
		return nil
	case errors.Is(w.err, errBare):
		return ours(PhaseBody, KindMessage, [3]int{5, 6, 0}, "%w", errBare)
	case w.err == nil:
		e := fault(ctx, PhaseBody, "", err)
		e.Kind, e.Err = KindLocal, err
		return e
	}
	e := fault(ctx, s.phase, s.verb, w.err)
	if ctx.Err() == nil {
		// A server that hangs up in the middle may have said why.
		if r, none := c.reply(ctx, s); none == nil && r.code >= 400 {
			return c.refuse(s, r)
		}
	}
	return e
}
