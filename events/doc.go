// Package events is the vocabulary of Postrider: what can happen to mail, and
// the stable JSON that tells of it.
//
// It holds values only. An [Event] is an envelope around one [Payload]; there is
// one payload struct per [Type]. Nothing here does I/O, starts a goroutine or
// reads a clock. Everything in an event but its Date, Seq and ServiceURL is a
// function of the facts, so an event that is made again after a crash is the same
// event with the same [ID].
//
// The JSON is the promise of the package: fields are only ever added. The golden
// files under testdata/golden pin its bytes, and [Schema] gives JSON Schema
// 2020-12 generated from the same structs.
//
// What an event does not prove stands in the comment of its payload.
package events
