package api

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strconv"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"
	"golang.org/x/sync/errgroup"

	"github.com/postrider/postrider/smtpsend"
	"github.com/postrider/postrider/store"
)

// Outbox changes submissions that wait. Its methods answer the submission as it is then;
// their errors are those of [smtpsend.Queue].
type Outbox interface {
	Cancel(ctx context.Context, id store.SubmissionID) (store.Submission, error)
	Reschedule(ctx context.Context, id store.SubmissionID, at time.Time) (store.Submission, error)
	Retry(ctx context.Context, id store.SubmissionID) (store.Submission, error)
	Release(ctx context.Context, id store.SubmissionID) (store.Submission, error)
	Resolve(ctx context.Context, id store.SubmissionID, as smtpsend.Resolution) (store.Submission, error)
}

// QueuePath is in the input of every route of one submission.
type QueuePath struct {
	QueueID string `path:"queueId" doc:"queueId of the submission"`
}

func (s *Server) outboxRoutes() {
	scopes, tags := []string{scopeSend}, []string{"sending"}
	route := func(id, method, rest, summary, description string) huma.Operation {
		return huma.Operation{OperationID: id, Method: method, Path: "/v1/outbox" + rest, Tags: tags, Summary: summary, Description: description}
	}
	register(s, route("listOutbox", http.MethodGet, "",
		"List submissions", "Newest first. What ended is listed as long as it is kept: sent for a day, failed and canceled for seven, unknown for thirty. A token bound to an account sees that account's."),
		scopes, s.listOutbox)
	register(s, route("getSubmission", http.MethodGet, "/{queueId}",
		"What became of a submission", ""), scopes, s.getSubmission)
	register(s, rawRoute(route("getSubmissionRaw", http.MethodGet, "/{queueId}/raw",
		"The message as it is sent", "As long as it is kept: sent until it was copied, failed for a day.")), scopes, s.getSubmissionRaw)
	register(s, route("cancelSubmission", http.MethodDelete, "/{queueId}",
		"Cancel a submission", "One that waits. Its end is a messageFailed with the reason cancelled. Doing so again answers the same."), scopes, s.cancel)
	register(s, route("rescheduleSubmission", http.MethodPut, "/{queueId}",
		"Send at another time", "One that waits; a time in the past is now. The Date field of the message stays."), scopes, s.reschedule)
	register(s, route("retrySubmission", http.MethodPost, "/{queueId}/retry",
		"Send now", "One that waits is due at once; one that failed is tried again, with a fresh budget of attempts."), scopes, s.deed(Outbox.Retry))
	register(s, route("releaseSubmission", http.MethodPost, "/{queueId}/release",
		"Release a submission that is held for review", ""), scopes, s.deed(Outbox.Release))
	register(s, route("resolveSubmission", http.MethodPost, "/{queueId}/resolve",
		"Say what became of an unknown outcome", "sent and failed end it; retry sends it again, which may make a duplicate."), scopes, s.resolve)
}

func rawRoute(op huma.Operation) huma.Operation {
	op.Responses = map[string]*huma.Response{"200": {
		Description: "OK", Content: map[string]*huma.MediaType{"message/rfc822": {Schema: &huma.Schema{Type: huma.TypeString, Format: "binary"}}},
	}}
	return op
}

type listOutboxIn struct {
	PageIn
	Account string `query:"account" maxLength:"256" doc:"only this account's"`
	State   string `query:"state" enum:"scheduled,queued,processing,held,sent,failed,canceled,unknown"`
}

type listOutboxOut struct {
	Body outboxBody
}

type outboxBody struct {
	PageOut
	Messages []submissionOut `json:"messages" nullable:"false"`
}

func (s *Server) listOutbox(ctx context.Context, in *listOutboxIn) (*listOutboxOut, error) {
	account, err := whose(ctx, in.Account)
	if err != nil {
		return nil, err
	}
	q := store.SubmissionQuery{Offset: in.Page * in.PageSize, Limit: in.PageSize}
	if account != nil {
		q.Account = *account
	}
	if in.State != "" {
		q.States = []store.SubmissionState{store.SubmissionState(in.State)}
	}
	if q.Offset > store.MaxSubmissionOffset {
		return nil, invalid("query.page", "OutOfRange", "pages end after %d submissions: ask for an account, a state or a queueId", store.MaxSubmissionOffset)
	}
	page, err := s.o.Store.Submissions(ctx, q)
	if err != nil {
		return nil, err
	}
	spools, err := s.spools(ctx, page.Submissions)
	if err != nil {
		return nil, err
	}
	out := outboxBody{
		PageOut:  PageOut{Total: page.Total, Page: in.Page, Pages: (page.Total + in.PageSize - 1) / in.PageSize},
		Messages: make([]submissionOut, len(page.Submissions)),
	}
	for i := range page.Submissions {
		out.Messages[i] = showSubmission(&page.Submissions[i], spools[page.Submissions[i].Account], time.Now())
	}
	return &listOutboxOut{out}, nil
}

// spools reads those of the accounts of some submissions, several at a time.
func (s *Server) spools(ctx context.Context, rows []store.Submission) (map[store.AccountID]store.Spool, error) {
	found := map[store.AccountID]*store.Spool{}
	group, gctx := errgroup.WithContext(ctx)
	group.SetLimit(16)
	for _, m := range rows {
		if found[m.Account] != nil {
			continue
		}
		sp := &store.Spool{}
		found[m.Account] = sp
		group.Go(func() (err error) {
			*sp, err = s.o.Store.Spool(gctx, m.Account)
			return err
		})
	}
	err := group.Wait()
	spools := map[store.AccountID]store.Spool{}
	for id, sp := range found {
		spools[id] = *sp
	}
	return spools, err
}

type oneSubmission struct {
	Body submissionOut
}

// submission reads the submission of a path, if the caller may see it: what belongs to
// others is as if it were not there.
func (s *Server) submission(ctx context.Context, queueID string) (store.Submission, error) {
	id, err := store.ParseSubmissionID(queueID)
	if err != nil {
		return store.Submission{}, noSubmission().because(err)
	}
	m, err := s.o.Store.Submission(ctx, id)
	if err != nil {
		return store.Submission{}, ofDeed(err)
	}
	if bound := callOf(ctx).token.Account; bound != "" && m.Account != bound {
		return store.Submission{}, noSubmission()
	}
	return m, nil
}

func noSubmission() *Problem { return problem(SubmissionNotFound, "no such submission") }

// one is the answer with a submission in it.
func (s *Server) one(ctx context.Context, m store.Submission) (*oneSubmission, error) {
	sp, err := s.o.Store.Spool(ctx, m.Account)
	if err != nil {
		return nil, err
	}
	return &oneSubmission{showSubmission(&m, sp, time.Now())}, nil
}

func (s *Server) getSubmission(ctx context.Context, in *QueuePath) (*oneSubmission, error) {
	m, err := s.submission(ctx, in.QueueID)
	if err != nil {
		return nil, err
	}
	return s.one(ctx, m)
}

func (s *Server) getSubmissionRaw(ctx context.Context, in *QueuePath) (*huma.StreamResponse, error) {
	m, err := s.submission(ctx, in.QueueID)
	if err != nil {
		return nil, err
	}
	if _, err := s.o.Store.OpenBody(ctx, m); err != nil { // what is wrong is a status, not a broken answer
		return nil, ofDeed(err)
	}
	return &huma.StreamResponse{Body: func(hc huma.Context) {
		r, w := humago.Unwrap(hc)
		body, err := s.o.Store.OpenBody(r.Context(), m)
		if err != nil {
			problemOf(ofDeed(err)).write(w, r)
			return
		}
		h := w.Header()
		h.Set("Content-Type", "message/rfc822")
		h.Set("Content-Length", strconv.FormatInt(m.Size, 10))
		h.Set("Content-Disposition", `attachment; filename="`+string(m.ID)+`.eml"`)
		h.Set("Content-Security-Policy", "sandbox")
		w.WriteHeader(http.StatusOK)
		if r.Method == http.MethodHead {
			return
		}
		if _, err := io.Copy(steady{w, http.NewResponseController(w)}, body); err != nil {
			s.log.Debug("message not read to its end", "submission", m.ID, "err", err)
			panic(http.ErrAbortHandler) // so that the reader knows
		}
	}}, nil
}

// steady gives every write its own time: large answers may take as long as they go on.
type steady struct {
	io.Writer
	ctl *http.ResponseController
}

func (w steady) Write(b []byte) (int, error) {
	_ = w.ctl.SetWriteDeadline(time.Now().Add(writeTime)) // not every writer has deadlines
	return w.Writer.Write(b)
}

type canceled struct {
	Body canceledBody
}

type canceledBody struct {
	QueueID string                `json:"queueId"`
	Deleted bool                  `json:"deleted"`
	State   store.SubmissionState `json:"state" enum:"canceled"`
}

func (s *Server) cancel(ctx context.Context, in *QueuePath) (*canceled, error) {
	m, err := s.change(ctx, in.QueueID, Outbox.Cancel)
	if err != nil {
		return nil, err
	}
	return &canceled{canceledBody{string(m.ID), true, m.State}}, nil
}

type rescheduleIn struct {
	QueuePath
	Body rescheduleBody
}

type rescheduleBody struct {
	SendAt When `json:"sendAt" doc:"at most a year ahead; the past means now"`
}

func (s *Server) reschedule(ctx context.Context, in *rescheduleIn) (*oneSubmission, error) {
	at := in.Body.SendAt.Time
	if at.After(time.Now().Add(maxAhead)) {
		return nil, invalid("body.sendAt", "SendAtOutOfRange", "must be at most a year ahead")
	}
	m, err := s.change(ctx, in.QueueID, func(o Outbox, ctx context.Context, id store.SubmissionID) (store.Submission, error) {
		return o.Reschedule(ctx, id, at)
	})
	if err != nil {
		return nil, err
	}
	return s.one(ctx, m)
}

type resolveIn struct {
	QueuePath
	Body resolveBody
}

type resolveBody struct {
	As string `json:"as" enum:"sent,failed,retry"`
}

func (s *Server) resolve(ctx context.Context, in *resolveIn) (*oneSubmission, error) {
	m, err := s.change(ctx, in.QueueID, func(o Outbox, ctx context.Context, id store.SubmissionID) (store.Submission, error) {
		return o.Resolve(ctx, id, smtpsend.Resolution(in.Body.As))
	})
	if err != nil {
		return nil, err
	}
	return s.one(ctx, m)
}

// deed is the handler of a change that needs no more words.
func (s *Server) deed(do func(Outbox, context.Context, store.SubmissionID) (store.Submission, error)) func(context.Context, *QueuePath) (*oneSubmission, error) {
	return func(ctx context.Context, in *QueuePath) (*oneSubmission, error) {
		m, err := s.change(ctx, in.QueueID, do)
		if err != nil {
			return nil, err
		}
		return s.one(ctx, m)
	}
}

// change does something to a submission that the caller may see.
func (s *Server) change(ctx context.Context, queueID string, do func(Outbox, context.Context, store.SubmissionID) (store.Submission, error)) (store.Submission, error) {
	if s.o.Outbox == nil {
		return store.Submission{}, problem(FieldNotSupported, "this process changes no submissions")
	}
	m, err := s.submission(ctx, queueID)
	if err != nil {
		return store.Submission{}, err
	}
	m, err = do(s.o.Outbox, ctx, m.ID)
	return m, ofDeed(err)
}

// ofDeed maps what the engine says about a submission.
func ofDeed(err error) error {
	switch {
	case errors.Is(err, store.ErrNotFound):
		return noSubmission().because(err)
	case errors.Is(err, smtpsend.ErrActive):
		return problem(SubmissionActive, "it is being handed over at this moment").because(err)
	case errors.Is(err, smtpsend.ErrState):
		return problem(SubmissionState, "that cannot be done in the state it is in").because(err)
	}
	return err
}
