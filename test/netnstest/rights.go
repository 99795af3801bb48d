//go:build linux

package netnstest

import (
	"os"
	"os/exec"
	"testing"
)

// Rights are the privileges of a process.
type Rights int

// The rights that a process can have.
const (
	// AsRoot has every capability that the test has.
	AsRoot Rights = iota
	// WithTwo is user 0 with only CAP_SYS_PTRACE and CAP_DAC_READ_SEARCH.
	WithTwo
	// AsNobody has no capability, no way to gain one, and is in no group.
	AsNobody
)

// Command returns a command that runs a program with these rights. The program may lie where nobody cannot reach it.
func (r Rights) Command(tb testing.TB, program string, arguments ...string) *exec.Cmd {
	tb.Helper()
	var options []string
	switch r {
	case AsRoot:
		return exec.Command(program, arguments...)
	case WithTwo: // a program that user 0 starts has the bounding set
		options = []string{"--bounding-set=-all,+sys_ptrace,+dac_read_search"}
	case AsNobody:
		options = []string{"--reuid=65534", "--regid=65534", "--clear-groups", "--bounding-set=-all", "--no-new-privs"}
	}
	setpriv, err := exec.LookPath("setpriv")
	if err != nil {
		tb.Skip("needs setpriv, of util-linux, to run a program with fewer rights")
	}
	file, err := os.Open(program)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = file.Close() })
	options = append(options, "--inh-caps=-all", "--", "/proc/self/fd/3")
	cmd := exec.Command(setpriv, append(options, arguments...)...)
	cmd.ExtraFiles = []*os.File{file}
	return cmd
}

// Nobody is [Rights.Command] of AsNobody.
func Nobody(tb testing.TB, program string, arguments ...string) *exec.Cmd {
	tb.Helper()
	return AsNobody.Command(tb, program, arguments...)
}
