package imaptest

import (
	"slices"
	"strconv"
	"strings"
)

// Dialect is what a Model is like: which capabilities it advertises, and does, and what
// it calls itself. It is a value; With and Without make others of it.
type Dialect struct {
	Name string
	// Caps are the capabilities besides IMAP4rev1, in capitals. What is not among them is
	// neither advertised nor done. Known: CONDSTORE QRESYNC ENABLE IDLE NOTIFY ID NAMESPACE
	// LIST-EXTENDED LIST-STATUS SPECIAL-USE CHILDREN ESEARCH UIDPLUS MOVE UNSELECT LITERAL+
	// SASL-IR AUTH=PLAIN AUTH=XOAUTH2 OBJECTID COMPRESS=DEFLATE X-GM-EXT-1 MESSAGELIMIT=n (of
	// FETCH and SEARCH); others are only advertised.
	Caps []string
	// IDName and IDVersion are told to ID.
	IDName, IDVersion string
	// Folders every user begins with.
	Folders []ModelFolder
}

// ModelFolder is a folder of a dialect.
type ModelFolder struct {
	Name string
	Use  string // special use, as `\Sent`, or ""
}

// Has says whether the dialect has a capability.
func (d Dialect) Has(c string) bool { return slices.Contains(d.Caps, c) }

// messageLimit is how many messages FETCH and SEARCH look at (RFC 9738); 0 = all.
func (d Dialect) messageLimit() int {
	for _, c := range d.Caps {
		if n, ok := strings.CutPrefix(c, "MESSAGELIMIT="); ok {
			limit, _ := strconv.Atoi(n)
			return limit
		}
	}
	return 0
}

// With is the dialect with more capabilities, named so.
func (d Dialect) With(caps ...string) Dialect {
	d.Caps = slices.Clone(d.Caps)
	for _, c := range caps {
		if !d.Has(c) {
			d.Caps = append(d.Caps, c)
			d.Name += "+" + c
		}
	}
	return d
}

// Without is the dialect without some of its capabilities, named so.
func (d Dialect) Without(caps ...string) Dialect {
	d.Caps = slices.Clone(d.Caps)
	for _, c := range caps {
		if i := slices.Index(d.Caps, c); i >= 0 {
			d.Caps = slices.Delete(d.Caps, i, i+1)
			d.Name += "-" + c
		}
	}
	return d
}

var modelFolders = []ModelFolder{{"INBOX", ""}, {"Sent", `\Sent`}, {"Drafts", `\Drafts`}, {"Trash", `\Trash`}, {"Junk", `\Junk`}, {"Archive", `\Archive`}}

// T3 is a server with IDLE, and nothing that tells changes: the baseline tier.
func T3() Dialect {
	return Dialect{
		Name: "T3", IDName: "Model", IDVersion: "1", Folders: modelFolders,
		Caps: strings.Fields("IDLE ID NAMESPACE UIDPLUS MOVE UNSELECT CHILDREN LITERAL+ SASL-IR AUTH=PLAIN AUTH=XOAUTH2 LIST-EXTENDED LIST-STATUS SPECIAL-USE ESEARCH"),
	}
}

// T2 is T3 with CONDSTORE.
func T2() Dialect {
	d := T3().With("CONDSTORE", "ENABLE")
	d.Name = "T2"
	return d
}

// T1 is T2 with QRESYNC.
func T1() Dialect {
	d := T2().With("QRESYNC")
	d.Name = "T1"
	return d
}

// T0 is like Gmail: CONDSTORE, labels, and folders that are views on All Mail.
func T0() Dialect {
	d := T2().With("X-GM-EXT-1", "COMPRESS=DEFLATE")
	d.Name, d.IDName = "T0", "GImap"
	d.Folders = []ModelFolder{
		{"INBOX", ""},
		{gmailRoot + "All Mail", `\All`},
		{gmailRoot + "Sent Mail", `\Sent`},
		{gmailRoot + "Drafts", `\Drafts`},
		{gmailRoot + "Spam", `\Junk`},
		{gmailRoot + "Trash", `\Trash`},
	}
	return d
}

const gmailRoot = "[Gmail]/"
