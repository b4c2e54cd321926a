package api

import (
	"context"
	"errors"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/postrider/postrider/smtpsend"
	"github.com/postrider/postrider/smtpsend/compose"
	"github.com/postrider/postrider/store"
)

// Submitter takes messages to send. Its errors are those of [smtpsend.Queue].
type Submitter interface {
	// Submit MUST have stored the message for good, or refused it, when it returns. It MAY
	// block to the end of ctx.
	Submit(ctx context.Context, r smtpsend.Request) (smtpsend.Result, error)
	// Wake lets an account send at once whose credentials or servers have changed. It MUST
	// NOT wait for the sending.
	Wake(ctx context.Context, id store.AccountID) error
}

// submitTime is for taking a message: of a reply, its original is read from the mailbox.
const submitTime = 60 * time.Second

func (s *Server) submitRoutes() {
	register(s, huma.Operation{
		OperationID: "submitMessage", Method: http.MethodPost, Path: "/v1/account/{account}/submit", Tags: []string{"sending"},
		Summary:     "Send a message",
		Description: "200 means that it is queued and will not be lost; messageSent says when the submission server took it. The message is final: what is sent is what was composed here. With Idempotency-Key a repeat within two days is answered as the first time and queues nothing.",
		Metadata:    map[string]any{"time": submitTime, "body": int64(maxSubmission)},
	}, []string{scopeSend}, s.submit)
}

type submitIn struct {
	AccountPath
	Key  string `header:"Idempotency-Key" doc:"your name for the request, at most 255 characters"`
	Body submitBody
}

type submitted struct {
	Body submittedBody
}

type submittedBody struct {
	Response    string                `json:"response"`
	MessageID   string                `json:"messageId"`
	QueueID     string                `json:"queueId,omitempty" doc:"names the submission from now on"`
	State       store.SubmissionState `json:"state,omitempty" enum:"queued,scheduled,held"`
	SendAt      *string               `json:"sendAt,omitempty" format:"date-time"`
	Reference   *referenceOut         `json:"reference,omitempty"`
	Idempotency *idempotencyOut       `json:"idempotency,omitempty"`
	Preview     string                `json:"preview,omitempty" doc:"with dryRun: the message as it would be sent, base64"`
}

type referenceOut struct {
	Message string `json:"message"`
	Success bool   `json:"success" doc:"false: it is sent without"`
	Error   string `json:"error,omitempty"`
}

type idempotencyOut struct {
	Key    string `json:"key"`
	Status string `json:"status" enum:"MISS,HIT" doc:"HIT: the answer of the first request"`
}

func (s *Server) submit(ctx context.Context, in *submitIn) (*submitted, error) {
	if s.o.Submitter == nil {
		return nil, problem(FieldNotSupported, "this process takes no messages to send")
	}
	if len(in.Key) > 255 || strings.ContainsFunc(in.Key, func(r rune) bool { return r < ' ' || r > '~' }) {
		return nil, invalid("header.Idempotency-Key", "Invalid", "must be at most 255 printable ASCII characters")
	}
	c, b := callOf(ctx), in.Body
	if from := b.Envelope.Value.From; b.needsSender() && (!from.Set || from.Null) { // the account's own
		a, err := s.o.Store.Account(ctx, in.id())
		if err != nil {
			return nil, ofAccount(in.id(), err)
		}
		b.From = Opt[addressIn]{Set: true, Value: addressIn{a.Name, a.Email}}
	}
	r, err := b.request(in.id(), time.Now(), c.text)
	if err != nil {
		return nil, err
	}
	r.IdempotencyKey, r.Fingerprint = in.Key, c.sum
	dry := s.preview(c)
	if b.DryRun.Value {
		r.DryRun = dry
	}
	got, err := s.o.Submitter.Submit(ctx, r)
	if err != nil {
		return nil, ofSubmission(in.id(), err)
	}
	out := submittedBody{
		Response: "Queued for delivery", MessageID: got.MessageID, QueueID: string(got.QueueID), State: got.State, SendAt: stamp(got.SendAt),
	}
	if ref := got.Reference; ref != nil {
		out.Reference = &referenceOut{ref.Message, ref.Success, ref.Error}
	}
	if r.DryRun != nil {
		out.Response, out.QueueID, out.State = "Dry run: nothing was queued", "", ""
		out.Preview = dry.String()
		return &submitted{out}, nil
	}
	if in.Key != "" {
		out.Idempotency = &idempotencyOut{in.Key, "MISS"}
		if got.Hit {
			out.Idempotency.Status = "HIT"
		}
	}
	return &submitted{out}, nil
}

// ofSubmission maps what the engine says about a message to send.
func ofSubmission(id store.AccountID, err error) error {
	if refusal, ok := errors.AsType[*compose.Error](err); ok {
		return ofMessage(refusal)
	}
	if a, ok := errors.AsType[*smtpsend.AttachedError](err); ok && errors.Is(err, smtpsend.ErrNoMessage) {
		at := "body.attachments[" + strconv.Itoa(a.At) + "].reference"
		return refused(AttachmentNotFound, Fault{at, string(AttachmentNotFound), "no such attachment"}).because(err)
	}
	switch {
	case errors.Is(err, smtpsend.ErrNoServer):
		return problem(SMTPUnavailable, "account %q has no submission server", id).because(err)
	case errors.Is(err, smtpsend.ErrNoGateway):
		return refused(GatewayNotFound, Fault{"body.gateway", string(GatewayNotFound), "no such gateway"}).because(err)
	case errors.Is(err, smtpsend.ErrNoReference):
		return refused(ReferenceNotFound, Fault{"body.reference.message", string(ReferenceNotFound), "no such message"}).because(err)
	case errors.Is(err, smtpsend.ErrMailbox):
		return problem(MailServerUnavailable, "the mailbox could not be read").because(err)
	case errors.Is(err, smtpsend.ErrRetry):
		return invalid("body.retry", "OutOfRange", "must be at most 49 delays of 1 second to 1 day, for at most 50 attempts").because(err)
	case errors.Is(err, smtpsend.ErrTooLarge):
		return problem(MessageTooLarge, "the message is larger than the submission server takes").because(err)
	case errors.Is(err, store.ErrOutboxFull):
		return problem(OutboxFull, "too much waits to be sent").because(err)
	case errors.Is(err, store.ErrKeyReused):
		return problem(IdempotencyKeyReused, "the key was used for another request").because(err)
	}
	return ofAccount(id, err)
}

// ofMessage maps what is wrong with a message as such.
func ofMessage(refusal *compose.Error) *Problem {
	code := ValidationFailed
	switch {
	case refusal.Has(compose.MessageTooLarge):
		code = MessageTooLarge
	case refusal.Has(compose.ReferenceMismatch):
		code = ReferenceMismatch
	}
	faults := make([]Fault, len(refusal.Problems))
	for i, p := range refusal.Problems {
		at := "body"
		if p.Location != "" {
			at += "." + placeName(p.Location)
		}
		faults[i] = Fault{at, string(p.Code), p.Message}
	}
	return refused(code, faults...)
}
