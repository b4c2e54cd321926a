// Package wire is an IMAP client connection that no server kills by being odd.
//
// A Conn is made by Dial, logged in, and owned by one goroutine, which calls all of its
// methods; only Kick, Close, LastProof, LastHeard and SpeakBy may be called by others.
// It starts no goroutine of its own. Commands go out, answers come back as values or
// through callbacks; what a server says without being asked is kept as hints (Changes).
//
// Reading has two stages, so that a fault costs what it stands in. Framing (reader.go)
// knows lines and literals and no grammar. Parsing (scanner.go and a file per response)
// reads a frame token by token: what it cannot read is left out and named in
// Message.Damaged, what it does not know is skipped and counted. Everything a server
// can make large has a bound in Limits; nothing is allocated by a number it named, and
// no parser recurses without a depth.
//
// Every wait has a deadline of its own kind (Limits): the connection closes itself when
// it has passed, because a late answer cannot be told from the next one. The end of a
// context ends the connection too, except for Idle, which leaves politely.
//
// Errors are *Error. After No, Bad and Refused the connection is usable; after every
// other kind it is closed.
//
// What a server repeats of the credentials is hidden, as far as package redact recognizes
// it, in all that is made to be shown: the texts of an Error and of Changes, Capabilities,
// and the trace. Answers are given as they came.
//
// Implemented: RFC 3501 (as amended in practice), 2177 IDLE, 2342 NAMESPACE, 2971 ID,
// 3516 BINARY (fetch), 3691 UNSELECT, 4315 UIDPLUS, 4731 ESEARCH, 4959 SASL-IR, 4978
// COMPRESS=DEFLATE, 5161 ENABLE, 5258/5819/6154 LIST with SPECIAL-USE and STATUS, 5465
// NOTIFY, 6851 MOVE, 7162 CONDSTORE and QRESYNC (the FETCH modifiers, not the SELECT
// parameter), 7888 LITERAL+ and LITERAL-, 7889 APPENDLIMIT, 8474 OBJECTID, 9738
// MESSAGELIMIT (of FETCH and SEARCH), Gmail's X-GM-EXT-1, XLIST.
//
// Not implemented, on purpose: sequence numbers as arguments, UTF8=ACCEPT, IMAP4rev2 as
// such (its advertisement implies nothing here), SEARCHRES, CATENATE, URLAUTH, SORT,
// THREAD, METADATA, ACL; Raw sends any of them.
package wire
