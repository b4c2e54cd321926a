// Package transport hands one message to a submission server (RFC 6409) and says exactly
// what the server answered: one SMTP connection, and a pool of them.
//
// It decides nothing. An *Error carries facts: the step, the reply, and whether the final
// dot may have been seen without an answer (Unknown). Retrying is the caller's.
//
// Invariants:
//   - The final dot leaves only after the whole body was flushed and the caller's
//     beforeDot returned nil. Any end before that leaves the server without a message.
//   - Credentials are sent over TLS alone, but where Server.Plaintext and the operator
//     allow otherwise. STARTTLS is never left out because a server does not offer it.
//   - What a server repeats of them is not shown, in no error, receipt or refusal: see
//     internal/redact for what is recognized.
//   - A connection is used under one Server.Key, one message at a time, and is not used
//     again once its place in the dialogue is in doubt.
//   - Every step has a deadline (Timeouts), every reply a bound (64 KiB, 100 lines), and
//     the end of a context closes the socket. A body is streamed, never held.
//
// Goroutines: a Pool has those that say QUIT on connections it gives up, and Send has one
// while it pipelines; all are joined, the former by Pool.Close.
//
// Implemented: RFC 5321 (client), 1870 SIZE, 2034/3463 enhanced codes, 2920 PIPELINING,
// 3207 STARTTLS, 3461 DSN, 4954 AUTH (PLAIN, LOGIN, XOAUTH2, OAUTHBEARER of RFC 7628),
// 6152 8BITMIME, 6531 SMTPUTF8, 8314 implicit TLS, 8689 REQUIRETLS.
//
// Not implemented, on purpose: CHUNKING and BINARYMIME (RFC 3030), SCRAM, opportunistic
// TLS, the encoding of non-ASCII ORCPT (RFC 6533).
package transport
