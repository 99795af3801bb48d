//go:build linux

package command

import (
	"fmt"
	"net/http"
	"os/exec"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/listen-exporter/listen_exporter/test/program"
)

// launchAsService starts a command as a service manager does: without a terminal.
func launchAsService(t *testing.T, cmd *exec.Cmd) *program.Exporter {
	t.Helper()
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	return program.Launch(t, cmd)
}

func TestSignalsArePassedOnToTheCommand(t *testing.T) {
	s := newLeaseServer(t)
	names := strings.Fields("HUP INT QUIT ILL TRAP ABRT BUS FPE USR1 SEGV USR2 PIPE ALRM TERM CONT TSTP XCPU XFSZ VTALRM WINCH IO PWR SYS RTMIN+1 RTMAX")
	e := launchAsService(t, s.command(t, "--", "bash", "-c", `
for name in `+strings.Join(names, " ")+`; do trap "echo got $name" $name; done
echo pid $$
for n in {1..2000}; do sleep 0.03; done`))
	var pid int
	e.Await("the command", func() bool {
		_, err := fmt.Sscanf(e.Stdout.String(), "pid %d\n", &pid)
		return err == nil
	})
	for _, name := range names {
		number := unix.SignalNum("SIG" + name)
		switch name {
		case "RTMIN+1":
			number = 35
		case "RTMAX":
			number = 64
		case "PIPE": // lease ignores it
			continue
		}
		e.Signal(number)
		e.Await("SIG"+name, func() bool { return strings.Contains(e.Stdout.String(), "got "+name+"\n") })
	}
	for _, name := range names {
		if times := strings.Count(e.Stdout.String(), "got "+name+"\n"); times > 1 {
			t.Errorf("SIG%s came %d times", name, times)
		}
	}
	if requests := s.requests(); requests != "POST" {
		t.Errorf("requests %q while the command runs, which ignores all signals", requests)
	}
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if code := e.Wait(); code != 137 || s.requests() != "POST DELETE" {
		t.Errorf("exit code %d of a killed command, want 137; requests %q", code, s.requests())
	}
}

// What a program ignores or blocks from its start, it has from its parent.
func TestTheCommandStartsWithTheSignalsOfItsCaller(t *testing.T) {
	s := newLeaseServer(t)
	masks := regexp.MustCompile(`(?m)^Sig(Blk|Ign|Cgt):.*\n`)
	for _, caller := range []string{"", "trap '' HUP INT; "} {
		run := func(words ...string) string {
			cmd := exec.Command("bash", append([]string{"-c", caller + `exec "$@"`, "bash"}, words...)...)
			cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
			output, err := cmd.CombinedOutput()
			if err != nil {
				t.Fatalf("%v: %s", err, output)
			}
			return strings.Join(masks.FindAllString(string(output), -1), "")
		}
		direct := []string{"cat", "/proc/self/status"}
		want, got := run(direct...), run(append(append(s.command(t).Args, "--"), direct...)...)
		if got != want {
			t.Errorf("after %q:\n%s\nwant\n%s", caller, got, want)
		}
	}
}

func TestACommandThatIgnoresSIGTERMKeepsItsLease(t *testing.T) {
	s := newLeaseServer(t)
	s.ttl = time.Second
	e := launchAsService(t, s.command(t, "--", "sh", "-c", `trap "" TERM; echo ready; exec sleep 60`))
	e.Await("the command", func() bool { return strings.Contains(e.Stdout.String(), "ready") })
	e.Signal(syscall.SIGTERM)
	s.awaitRequests(e, "renew", 2)
	e.Signal(syscall.SIGINT)
	if code := e.Wait(); code != 130 || !strings.HasSuffix(s.requests(), "renew DELETE") {
		t.Errorf("exit code %d, want 130; requests %q", code, s.requests())
	}
}

func TestASignalEndsTheWaitForALease(t *testing.T) {
	for _, test := range []struct {
		name     string
		delay    time.Duration
		requests string
	}{
		{"the exporter answers then, and the lease is given back", interruptedTimeout / 2, "POST DELETE"},
		{"the exporter hangs", time.Minute, "POST"},
	} {
		t.Run(test.name, func(t *testing.T) {
			s, asked := newLeaseServer(t), make(chan struct{})
			ended := make(chan struct{})
			s.refuse = func(what string, _ int) (int, any) {
				if what == http.MethodPost {
					close(asked)
					select {
					case <-time.After(test.delay):
					case <-ended:
					}
				}
				return 0, nil
			}
			e := launchAsService(t, s.command(t, "--", "echo", "ran"))
			<-asked
			e.Signal(syscall.SIGTERM)
			code := e.Wait()
			close(ended)
			if code != 143 || e.Stdout.String()+e.Stderr.String() != "" || s.requests() != test.requests {
				t.Errorf("exit code %d, want 143; requests %q, want %q; output: %s%s", code, s.requests(), test.requests, e.Stdout.String(), e.Stderr.String())
			}
		})
	}
}
