// Package benchtest says what benchmarks measured, and measures processes: processor
// time and resident memory. Machines are noisy, so a figure is worth its ratio to a plain
// thing measured in the same run; the value beside it is context.
//
// It is imported by benchmarks only, and needs Linux' /proc for other processes.
package benchtest
