package api

import (
	"context"
	"net/http"
	"slices"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"github.com/postrider/postrider/store"
)

type mailboxesOut struct {
	Body mailboxesBody
}

type mailboxesBody struct {
	Mailboxes []mailboxOut `json:"mailboxes" nullable:"false"`
}

type mailboxOut struct {
	Path             string          `json:"path"`
	Delimiter        string          `json:"delimiter"`
	ParentPath       string          `json:"parentPath"`
	Name             string          `json:"name"`
	Listed           bool            `json:"listed"`
	Subscribed       bool            `json:"subscribed"`
	SpecialUse       string          `json:"specialUse,omitempty"`
	SpecialUseSource string          `json:"specialUseSource,omitempty" enum:"user,extension,name"`
	NoInferiors      bool            `json:"noInferiors"`
	Messages         int             `json:"messages" doc:"known to us"`
	UIDNext          uint32          `json:"uidNext"`
	Status           *mailboxCounts  `json:"status,omitempty"`
	Watched          string          `json:"watched" enum:"idle,poll,no"`
	SyncError        *mailboxProblem `json:"syncError,omitempty"`
}

type mailboxCounts struct {
	Messages uint32 `json:"messages" doc:"as the server said at the last look"`
}

type mailboxProblem struct {
	Reason   string  `json:"reason"`
	Response string  `json:"response,omitempty"`
	Since    *string `json:"since" format:"date-time"`
	Count    int     `json:"count"`
}

func (s *Server) mailboxRoutes() {
	register(s, huma.Operation{
		OperationID: "listMailboxes", Method: http.MethodGet, Path: "/v1/account/{account}/mailboxes", Tags: []string{"mailboxes"},
		Summary: "List the folders of an account", Description: "From stored state, without asking the mail server.",
	}, []string{scopeRead}, s.listMailboxes)
}

func (s *Server) listMailboxes(ctx context.Context, in *showIn) (*mailboxesOut, error) {
	if _, err := s.o.Store.Account(ctx, in.id()); err != nil {
		return nil, ofAccount(in.id(), err)
	}
	folders, _, err := s.o.Store.Folders(ctx, in.id())
	if err != nil {
		return nil, ofAccount(in.id(), err)
	}
	nums := make([]uint32, len(folders))
	for i, f := range folders {
		nums[i] = f.Num
	}
	metas, err := s.o.Store.FolderMetas(ctx, in.id(), nums)
	if err != nil {
		return nil, ofAccount(in.id(), err)
	}
	list := make([]mailboxOut, 0, len(folders))
	for _, f := range folders {
		meta, ok := metas[f.Num]
		list = append(list, mailbox(f, meta, ok))
	}
	slices.SortFunc(list, func(a, b mailboxOut) int { return strings.Compare(a.Path, b.Path) })
	return &mailboxesOut{mailboxesBody{list}}, nil
}

// mailbox joins an entry of the folder list with what was seen in the folder, if looked
// says that anything was.
func mailbox(f store.Folder, meta store.FolderMeta, looked bool) mailboxOut {
	out := mailboxOut{
		Path: f.Path, Delimiter: f.Delimiter, Name: f.Path, Listed: true, Subscribed: f.Subscribed,
		SpecialUse: f.SpecialUse, SpecialUseSource: f.SpecialUseSource, Watched: f.Watched,
		NoInferiors: slices.ContainsFunc(f.Attrs, func(a string) bool {
			return strings.EqualFold(a, `\Noinferiors`)
		}),
		Messages: meta.Messages(), UIDNext: meta.UIDNext,
	}
	if f.Delimiter != "" {
		if i := strings.LastIndex(f.Path, f.Delimiter); i >= 0 {
			out.ParentPath, out.Name = f.Path[:i], f.Path[i+len(f.Delimiter):]
		}
	}
	if looked && !meta.Look.IsZero() {
		out.Status = &mailboxCounts{meta.Snap.Messages}
	}
	if e := meta.Fail; e != nil {
		out.SyncError = &mailboxProblem{e.Reason, e.Response, stamp(e.Since), e.Count}
	}
	return out
}
