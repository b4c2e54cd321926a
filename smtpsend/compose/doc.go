// Package compose makes the bytes of a message of what somebody asks to send, and the
// request of a reply or a forward of the message that it is about.
//
// It is pure: values in, an [io.WriterTo] out. It has no goroutine, and does no I/O but to
// read attachments by the function that they come with. [Composed] never holds a message
// whole: texts are encoded and attachments read while they are written.
//
// # Invariants
//
//   - What a [Composed] writes is fixed when it is made: writing again writes the same.
//   - Every line ends CRLF and has at most 998 octets (RFC 5322 section 2.1.1); one with
//     encoded words at most 76 (RFC 2047 section 2). Header and text are ASCII, but for
//     addresses whose local part is not (RFC 6532, [Composed].NeedsUTF8).
//   - No value begins a line of its own: CR, LF and NUL are refused before anything is
//     written.
//   - Bcc is no field, in no form.
//   - All problems of a request are told at once, each with the place of its JSON field.
//
// # What it writes
//
// RFC 5322 with RFC 2045 to 2047, RFC 2231 parameters, RFC 2387 related parts, RFC 2392
// content ids; domains as A-labels (RFC 5891). A raw message keeps its fields and body
// byte for byte, but for line ends, Bcc and what is added at its top.
//
// Deliberately not: group syntax in addresses, several authors, Sender and Resent fields,
// signing and encrypting, templates, images in data: URLs (they stay where they are).
package compose
