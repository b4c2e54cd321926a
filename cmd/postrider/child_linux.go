package main

import "syscall"

// childAttr gives the server a group of its own, so that Ctrl-C in a terminal does not
// reach it before us, and ends it when we are gone.
func childAttr() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
}
