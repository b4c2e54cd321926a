// Package egress decides which addresses this program may connect to on behalf of
// people who are not its operator: webhook URLs, token endpoints, mail servers.
//
// A [Guard] judges twice. [Guard.CheckURL] looks at a URL when it is stored: scheme,
// port, and the host where it is an address in any spelling. [Guard.DialContext]
// judges again at dial time, on the very address the socket is about to connect to,
// after DNS: once on the resolver's answer and once more in the dialer's control
// hook. The name is looked up once per dial and the judged answer is what is
// dialled, so an answer that changes between the two looks has no effect.
//
// Addresses are judged without zone; IPv4-mapped and NAT64 (64:ff9b::/96, RFC 6052)
// addresses by the IPv4 address inside them. Ranges are those of the IANA special
// purpose registries (RFC 6890 and its updates).
//
// Invariants:
//   - A refusal is [ErrRefused] and says nothing of what DNS answered or what is
//     listening, so that a tenant learns nothing about the operator's network.
//   - The metadata services of clouds open only when the operator lists the exact
//     address; a wider prefix or a host name is not enough.
//   - Our own listeners open only when listed with exact address and port.
//   - [Guard.Transport] follows no proxy and speaks no TLS below 1.2.
//
// A Guard is immutable and safe for concurrent use. It has no goroutine of its own;
// those of a dial end before the dial returns. It deliberately does not follow
// redirects or read bodies: that is the caller's.
package egress
