// Command postrider watches mailboxes and tells an application about every message,
// once, in order.
//
// This package reads the configuration, builds the floors from the store up, and runs
// and stops them; what they do is theirs. [run] is a table of subcommands that reads
// no globals; end-to-end tests call it.
//
// Goroutines: [daemon] owns one per part (manager, relay, sweeper, hints, janitor, collector,
// listeners) and joins all of them in the order of [daemon.stop]. The managed
// redis-server has one that starts it, restarts it and outlives everything else.
//
// Correctness never depends on the order of shutdown, nor on there being one: every
// part survives kill -9 at any line.
package main
