// Package message reads mail as it really is: header lines, addresses, encoded words,
// the MIME tree, transfer encodings, charsets, text, HTML and calendars. Everything that
// looks into messages shares it.
//
// It is pure: bytes and values in, values out. It has no goroutine and does no I/O, and
// its functions may be called by many goroutines at once.
//
// # Invariants
//
//   - Nothing is an error. What cannot be read is left out, kept as it came, or read as
//     plain text, and said: in [Warnings], [Message.Cut] and the results called more.
//   - What comes out is valid UTF-8 without NUL. Bytes that are none become U+FFFD; text
//     in a charset nobody knows is kept as far as it is UTF-8.
//   - Work is linear in the input, whatever it is. A header block is read up to
//     [MaxHeader], multiparts to a depth of [MaxDepth], [MaxParts] parts in all; nothing
//     recurses by what a message says. Bodies are slices of the input, not copies.
//   - HTML made by [WebSafe] has no scripts, forms, frames or foreign styles, every
//     element in it is closed, and it never ends inside a tag.
//
// # What it reads
//
// RFC 5322 with its obsolete forms, RFC 2045 to 2047, RFC 2231, and of RFC 5545 what an
// invitation says of itself. Structures that a server describes ([Part] without Body) and
// those that [Parse] finds are chosen from by the same code, [Choose].
//
// Deliberately not: a message inside a message (message/rfc822) is a part like any other
// until its body is parsed by itself; uuencode and TNEF stay what they are; signatures and
// encryption are not judged; remote images stay in HTML.
package message
