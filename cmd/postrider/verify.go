package main

import (
	"context"
	"fmt"

	"github.com/postrider/postrider/api"
	"github.com/postrider/postrider/imapsync"
	"github.com/postrider/postrider/store"
)

// verifier tries a mail server for package api: it logs in, lists the folders, and logs
// out again.
type verifier struct {
	dialer *imapsync.Dialer
}

func (v verifier) Verify(ctx context.Context, server store.Server) api.VerifyResult {
	s, err := v.dialer.Dial(ctx, server)
	if err != nil {
		return refused(err)
	}
	defer s.Close()
	info := s.Info()
	r := api.VerifyResult{Capabilities: info.Capabilities}
	folders, err := s.Folders(ctx)
	if err != nil {
		bad := refused(err)
		bad.Capabilities = r.Capabilities
		return bad
	}
	selectable := 0
	for _, f := range folders.Folders {
		r.Mailboxes = append(r.Mailboxes, api.VerifiedMailbox{Path: f.Path, Delimiter: f.Delimiter, SpecialUse: f.SpecialUse})
		if f.Selectable {
			selectable++
		}
	}
	r.Success, r.Plan = true, planWords(info, selectable)
	_ = s.Logout(ctx) // politeness: what was asked is known
	return r
}

// planWords says how the server would be watched; once it is, the account itself says
// it more exactly.
func planWords(info imapsync.Info, folders int) []string {
	main := "INBOX: asked often (the server has no IDLE)"
	if info.Idle {
		main = "INBOX: live (IDLE)"
	}
	others := "one STATUS at a time"
	switch {
	case info.Notify:
		others = "live (NOTIFY)"
	case info.ListStatus:
		others = "in one command (LIST-STATUS)"
	}
	flags := "by comparing them"
	if info.CondStore {
		flags = "by what changed since (CONDSTORE)"
	}
	return []string{main, fmt.Sprintf("%d other folders: %s", max(folders-1, 0), others), "flags: " + flags}
}

func refused(err error) api.VerifyResult {
	f := imapsync.Classify(err)
	return api.VerifyResult{Error: imapsync.Words(err), Code: f.Code, ResponseText: f.Response, Kind: f.Kind, Class: f.Class, Action: f.Action}
}
