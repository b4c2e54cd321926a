//go:build !linux

package main

import "syscall"

// childAttr gives the server a group of its own, so that Ctrl-C in a terminal does not
// reach it before us. Only Linux ends it when we are killed: elsewhere a successor says
// that it still runs.
func childAttr() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }
