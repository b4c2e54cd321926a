package api

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/danielgtaylor/huma/v2"

	"github.com/postrider/postrider/store"
)

// Code names what went wrong. Codes are stable: programs test them.
type Code string

// The codes there are; codes says what each means.
const (
	InvalidJSON           Code = "InvalidJSON"
	ValidationFailed      Code = "ValidationFailed"
	MaskedSecret          Code = "MaskedSecret"
	InvalidCursor         Code = "InvalidCursor"
	FieldNotSupported     Code = "FieldNotSupported"
	TargetNotAllowed      Code = "TargetNotAllowed"
	Unauthenticated       Code = "Unauthenticated"
	Forbidden             Code = "Forbidden"
	AddressNotAllowed     Code = "AddressNotAllowed"
	NotFound              Code = "NotFound"
	AccountNotFound       Code = "AccountNotFound"
	TokenNotFound         Code = "TokenNotFound"
	GatewayNotFound       Code = "GatewayNotFound"
	SubmissionNotFound    Code = "SubmissionNotFound"
	ReferenceNotFound     Code = "ReferenceNotFound"
	AttachmentNotFound    Code = "AttachmentNotFound"
	MethodNotAllowed      Code = "MethodNotAllowed"
	AccountAlreadyExists  Code = "AccountAlreadyExists"
	GatewayAlreadyExists  Code = "GatewayAlreadyExists"
	AccountPaused         Code = "AccountPaused"
	IMAPUnavailable       Code = "IMAPUnavailable"
	SMTPUnavailable       Code = "SMTPUnavailable"
	SubmissionActive      Code = "SubmissionActive"
	SubmissionState       Code = "SubmissionState"
	ReferenceMismatch     Code = "ReferenceMismatch"
	CursorExpired         Code = "CursorExpired"
	PreconditionFailed    Code = "PreconditionFailed"
	BodyTooLarge          Code = "BodyTooLarge"
	MessageTooLarge       Code = "MessageTooLarge"
	URLTooLong            Code = "URLTooLong"
	UnsupportedMediaType  Code = "UnsupportedMediaType"
	IdempotencyKeyReused  Code = "IdempotencyKeyReused"
	RateLimited           Code = "RateLimited"
	InternalError         Code = "InternalError"
	StoreUnavailable      Code = "StoreUnavailable"
	ConnectionError       Code = "ConnectionError"
	AuthenticationFails   Code = "AuthenticationFails"
	ServerBusy            Code = "ServerBusy"
	ShuttingDown          Code = "ShuttingDown"
	Timeout               Code = "Timeout"
	OutboxFull            Code = "OutboxFull"
	MailServerUnavailable Code = "MailServerUnavailable"
	LoopDetected          Code = "LoopDetected"
)

// codes is what is said of each code, here and at /docs/errors.
var codes = map[Code]struct {
	status int
	title  string
	help   string // what it means and what to do
	retry  int    // seconds for Retry-After; 0: no header
}{
	InvalidJSON:           {400, "Invalid JSON", "The body is not the JSON that we read: a syntax error, a key given twice, more than one value, text that is not UTF-8, more than 32 levels or 10,000 elements. Nothing was changed.", 0},
	ValidationFailed:      {400, "Validation failed", "Something in the request is missing, unknown or of the wrong kind; errors names each place. Nothing was changed.", 0},
	MaskedSecret:          {400, "Masked secret", "A secret was sent back as the mask that stands for it in answers. Leave the field out to keep the stored secret.", 0},
	InvalidCursor:         {400, "Invalid cursor", "The cursor was not made by this server, or for another query. Start from begin, now or a time.", 0},
	FieldNotSupported:     {400, "Field not supported", "The field is known and this version cannot do what it asks for.", 0},
	TargetNotAllowed:      {400, "Target not allowed", "The webhook URL is not one that this server may call; see egress in the configuration.", 0},
	Unauthenticated:       {401, "Unauthenticated", "No token was sent, or it is unknown, revoked or expired. Send Authorization: Bearer with a token that is valid.", 0},
	Forbidden:             {403, "Forbidden", "The token is valid and may not do this: a scope is missing, or it is bound to another account.", 0},
	AddressNotAllowed:     {403, "Address not allowed", "The token may not be used from this network address.", 0},
	NotFound:              {404, "Not found", "There is nothing at this path. Paths are exact and have no trailing slash.", 0},
	AccountNotFound:       {404, "Account not found", "No account has this id.", 0},
	TokenNotFound:         {404, "Token not found", "No token has this id.", 0},
	GatewayNotFound:       {404, "Gateway not found", "No gateway has this id.", 0},
	SubmissionNotFound:    {404, "Submission not found", "No submission has this queueId, or it ended long ago, or its message is no longer kept.", 0},
	AttachmentNotFound:    {404, "Attachment not found", "The attachment that is to go along is not in the mailbox (any more).", 0},
	ReferenceNotFound:     {404, "Reference not found", "The message that is answered or forwarded is not in the mailbox. ignoreMissing sends without it.", 0},
	MethodNotAllowed:      {405, "Method not allowed", "The path exists and takes other methods; Allow names them.", 0},
	AccountAlreadyExists:  {409, "Account already exists", "If-None-Match: * was sent and the id is taken.", 0},
	GatewayAlreadyExists:  {409, "Gateway already exists", "If-None-Match: * was sent and the id is taken.", 0},
	AccountPaused:         {409, "Account is paused", "Resume the account first.", 0},
	IMAPUnavailable:       {409, "Account has no IMAP", "The account has no imap block, or it is disabled.", 0},
	SMTPUnavailable:       {409, "Account cannot send", "The account has no smtp block, and the request names no gateway.", 0},
	SubmissionActive:      {409, "Submission is active", "The message is being handed over at this moment; ask again when that has ended.", 0},
	SubmissionState:       {409, "Not possible in this state", "What was asked for cannot be done to a submission in the state that it is in.", 0},
	ReferenceMismatch:     {409, "Reference mismatch", "The message that is answered or forwarded is not the one that reference.messageId names.", 0},
	CursorExpired:         {410, "Cursor expired", "The cursor is older than the journal, so events after it are gone. oldest is where reading can go on.", 0},
	PreconditionFailed:    {412, "Precondition failed", "The object has changed since the version named in If-Match. Read it again.", 0},
	BodyTooLarge:          {413, "Body too large", "The body is over the limit: 1 MiB, or 50 MiB for a message to send, of which 16 MiB may be something else than attachments.", 0},
	MessageTooLarge:       {413, "Message too large", "The message, or its text or html, is larger than we or the submission server take; see send.maxMessageSize.", 0},
	URLTooLong:            {414, "URL too long", "The URL is over the limit of 8 KiB.", 0},
	UnsupportedMediaType:  {415, "Unsupported media type", "A body must come as Content-Type: application/json.", 0},
	IdempotencyKeyReused:  {422, "Idempotency key reused", "The Idempotency-Key was used in the last two days for a request with another body.", 0},
	RateLimited:           {429, "Rate limited", "Too many requests with this token, too many open streams of it, or too many wrong tokens from this address. Try again after Retry-After.", 60},
	InternalError:         {500, "Internal error", "A fault of ours; the log has it under the request id in instance.", 0},
	StoreUnavailable:      {503, "Store unavailable", "Redis does not answer. The request may or may not have taken effect; it is safe to repeat.", 2},
	ConnectionError:       {503, "Connection error", "The mail server could not be reached or gave no session; kind, response and action say more.", 60},
	AuthenticationFails:   {503, "Authentication fails", "The mail server refused the account's credentials. This is never about your token.", 60},
	ServerBusy:            {503, "Server busy", "This process is at its limit of requests or streams.", 1},
	ShuttingDown:          {503, "Shutting down", "This process is ending; another one, or the next, will answer.", 2},
	OutboxFull:            {503, "Outbox full", "As much waits to be sent as there may be, of this account or of all; see send.maxQueuedBytes. Nothing was queued.", 60},
	MailServerUnavailable: {503, "Mail server unavailable", "The mailbox with the message that is answered or forwarded could not be read now.", 30},
	Timeout:               {504, "Timeout", "The request was not done within its time.", 0},
	LoopDetected:          {508, "Loop detected", "The request is a webhook delivery of a Postrider: its URL points at our own API.", 0},
}

// Problem is the answer to everything that is refused: RFC 9457 and the fields that
// clients of similar products read. It never carries the value that was refused.
type Problem struct {
	Type       string  `json:"type" doc:"where the code is explained"`
	Title      string  `json:"title"`
	Status     int     `json:"status"`
	Detail     string  `json:"detail"`
	Instance   string  `json:"instance" doc:"id of the request, as in X-Request-Id"`
	Code       Code    `json:"code" doc:"stable name of the problem"`
	StatusCode int     `json:"statusCode" doc:"same as status"`
	Error_     string  `json:"error" doc:"text of the HTTP status"`
	Message    string  `json:"message" doc:"same as detail"`
	Errors     []Fault `json:"errors,omitempty" nullable:"false"`

	Response           string            `json:"response,omitempty" doc:"what the mail server said"`
	ServerResponseCode string            `json:"serverResponseCode,omitempty"`
	Kind               string            `json:"kind,omitempty" doc:"what is broken at the mail server"`
	Action             string            `json:"action,omitempty" doc:"a sentence to show a user"`
	Oldest             string            `json:"oldest,omitempty" doc:"with CursorExpired: where reading can go on"`
	Checks             map[string]string `json:"checks,omitempty" doc:"of /readyz"`

	retry int   // Retry-After in seconds; 0: none
	cause error // for the log alone
}

// Fault is one place of a request that was refused, and why.
type Fault struct {
	Location string `json:"location" example:"body.imap.port"`
	Code     string `json:"code" example:"OutOfRange"`
	Message  string `json:"message" example:"must be 1 to 65535"`
}

// problem makes the problem of a code.
func problem(c Code, format string, args ...any) *Problem {
	about := codes[c]
	p := &Problem{
		Type: "/docs/errors#" + string(c), Title: about.title, Status: about.status, StatusCode: about.status,
		Code: c, Error_: http.StatusText(about.status), Detail: fmt.Sprintf(format, args...), retry: about.retry,
	}
	p.Message = p.Detail
	return p
}

// invalid is a ValidationFailed that names one place.
func invalid(location, code, format string, args ...any) *Problem {
	return refused(ValidationFailed, Fault{location, code, fmt.Sprintf(format, args...)})
}

// refused is a problem about places of the request. Its detail is the first fault.
func refused(c Code, faults ...Fault) *Problem {
	detail := codes[c].title
	if len(faults) > 0 {
		detail = faults[0].Location + ": " + faults[0].Message
	}
	if n := len(faults) - 1; n > 0 {
		detail += fmt.Sprintf(" (and %d more)", n)
	}
	p := problem(c, "%s", detail)
	p.Errors = faults[:min(len(faults), 20)] // an answer, not an echo of the request
	return p
}

// because keeps the cause for the log line of the request.
func (p *Problem) because(err error) *Problem { p.cause = err; return p }

// Error is the detail.
func (p *Problem) Error() string { return string(p.Code) + ": " + p.Detail }

// Unwrap gives the cause.
func (p *Problem) Unwrap() error { return p.cause }

// GetStatus implements huma.StatusError.
func (p *Problem) GetStatus() int { return p.Status }

// GetHeaders implements huma.HeadersError.
func (p *Problem) GetHeaders() http.Header {
	h := http.Header{}
	if p.retry > 0 {
		h.Set("Retry-After", strconv.Itoa(p.retry))
	}
	if p.Code == Unauthenticated {
		h.Set("WWW-Authenticate", `Bearer realm="postrider"`)
	}
	return h
}

// ContentType implements huma.ContentTypeFilter.
func (p *Problem) ContentType(string) string { return "application/problem+json" }

// problemOf is the problem that an error of a handler becomes. It is the only place
// that maps errors to answers; what it does not know is an InternalError, of which
// nothing but the request id is told.
func problemOf(err error) *Problem {
	if p, ok := errors.AsType[*Problem](err); ok {
		return p
	}
	switch {
	case errors.Is(err, store.ErrUnavailable):
		return problem(StoreUnavailable, "the store does not answer").because(err)
	case errors.Is(err, store.ErrStateLost): // its worker, or who needs it next, does so before long
		return problem(StoreUnavailable, "the state of the account is being restored").because(err)
	case errors.Is(err, store.ErrCursorExpired):
		return problem(CursorExpired, "the cursor is older than the journal").because(err)
	case errors.Is(err, store.ErrInvalidCursor):
		return invalidCursor("cursor").because(err)
	case errors.Is(err, store.ErrStale):
		return problem(PreconditionFailed, "the object has changed since it was read").because(err)
	case errors.Is(err, context.DeadlineExceeded):
		return problem(Timeout, "not done in time").because(err)
	case errors.Is(err, context.Canceled):
		return problem(Timeout, "the request was given up").because(err)
	}
	return problem(InternalError, "something went wrong here; the log has it under this request's id").because(err)
}

func invalidCursor(param string) *Problem {
	return refused(InvalidCursor, Fault{"query." + param, "Invalid", "not a cursor of this query"})
}

// noAccount is the answer to an id that is not there.
func noAccount(id store.AccountID) *Problem { return problem(AccountNotFound, "no account %q", id) }

// ofAccount maps what the store says about one account.
func ofAccount(id store.AccountID, err error) error {
	if errors.Is(err, store.ErrNotFound) {
		return noAccount(id).because(err)
	}
	return err
}

// write sends p as the answer to r.
func (p *Problem) write(w http.ResponseWriter, r *http.Request) {
	c := callOf(r.Context())
	c.problem = p
	maps.Copy(w.Header(), p.GetHeaders())
	w.Header().Set("Content-Type", p.ContentType(""))
	w.WriteHeader(p.Status)
	_ = json.NewEncoder(w).Encode(p.at(c.id)) // the reader is gone: nobody to tell
}

// at is p with the request's id.
func (p *Problem) at(id string) *Problem {
	q := *p
	q.Instance = id
	return &q
}

// hookHuma makes huma's own refusals problems of ours: 400 instead of 422, and no
// value of the request in the answer. huma keeps the constructors in package
// variables, so this happens once, and before the first API is made.
var hookHuma = sync.OnceFunc(func() {
	huma.NewError = func(status int, msg string, errs ...error) huma.StatusError { return fromHuma(status, msg, errs) }
	huma.NewErrorWithContext = func(ctx huma.Context, status int, msg string, errs ...error) huma.StatusError {
		p := fromHuma(status, msg, errs)
		if ctx == nil {
			return p
		}
		c := callOf(ctx.Context())
		c.problem = p
		return p.at(c.id)
	}
})

// fromHuma maps a refusal that huma found by itself.
func fromHuma(status int, msg string, errs []error) *Problem {
	switch {
	case status == http.StatusRequestEntityTooLarge:
		return problem(BodyTooLarge, "the body is over %d bytes", maxBody)
	case status == http.StatusUnsupportedMediaType:
		return problem(UnsupportedMediaType, "a body must be application/json")
	case status >= 500 || status == 0:
		return problem(InternalError, "something went wrong here; the log has it under this request's id").because(errors.Join(errs...))
	}
	faults := make([]Fault, 0, len(errs))
	for _, err := range errs {
		d, ok := err.(huma.ErrorDetailer)
		if !ok {
			continue
		}
		detail := d.ErrorDetail()
		f := Fault{Location: detail.Location, Code: "Invalid", Message: detail.Message}
		switch {
		case detail.Message == "unknown query parameter":
			f.Code = "Unknown"
		case strings.HasPrefix(detail.Location, "body"): // json's text may quote what it read
			f.Message = "cannot be read"
		}
		faults = append(faults, f)
	}
	if len(faults) == 0 {
		return problem(ValidationFailed, "%s", msg)
	}
	slices.SortFunc(faults, func(a, b Fault) int { return cmp.Compare(a.Location, b.Location) }) // huma walks a map
	return refused(ValidationFailed, faults...)
}
