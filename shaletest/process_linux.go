package shaletest

import (
	"os/exec"
	"syscall"
)

// endWithParent lets the server end with a test that could not clean up.
func endWithParent(c *exec.Cmd) {
	c.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
}
