package api

import "github.com/postrider/postrider/store"

// WatchingIn are the settings about how mail is watched, of the instance or of an account.
type WatchingIn struct {
	StallAfter     Opt[int]    `json:"stallAfter,omitempty" minimum:"60" maximum:"86400" doc:"seconds without proof of life before accountStalled; default 600"`
	NewFolderLimit Opt[int]    `json:"newFolderLimit,omitempty" minimum:"0" maximum:"1000000" doc:"messages that a folder found later may hold to have all of them announced; default 1000"`
	NotifyMoves    Opt[bool]   `json:"notifyMoves,omitempty" doc:"one messageMoved for a move that is certain, one mailboxRenamed for a renamed folder, instead of the linked pair; default false"`
	StoreIdentity  Opt[string] `json:"storeIdentity,omitempty" enum:"auto,full,none" doc:"what is kept of a message to know it again: auto the ids that the server gives, full its Message-ID too; default auto"`

	GmailCategories Opt[bool] `json:"resolveGmailCategories,omitempty" doc:"messageNew of Gmail's inbox has category, at the price of up to seven searches for some messages together; default false"`
}

// WatchingOut are the same in an answer.
type WatchingOut struct {
	StallAfter     *int    `json:"stallAfter,omitempty"`
	NewFolderLimit *int    `json:"newFolderLimit,omitempty"`
	NotifyMoves    *bool   `json:"notifyMoves,omitempty"`
	StoreIdentity  *string `json:"storeIdentity,omitempty"`

	GmailCategories *bool `json:"resolveGmailCategories,omitempty"`
}

// apply changes what an account has for itself; null gives it back to the instance.
func (in WatchingIn) apply(o *store.Override) {
	in.StallAfter.intoOwn(&o.StallAfter)
	in.NewFolderLimit.intoOwn(&o.NewFolderLimit)
	in.NotifyMoves.intoOwn(&o.NotifyMoves)
	in.StoreIdentity.intoOwn(&o.StoreIdentity)
	in.GmailCategories.intoOwn(&o.GmailCategories)
}

// watchingOf is what an account has for itself.
func watchingOf(o store.Override) WatchingOut {
	return WatchingOut{o.StallAfter, o.NewFolderLimit, o.NotifyMoves, o.StoreIdentity, o.GmailCategories}
}
