//go:build linux

package command

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/listen-exporter/listen_exporter/test/program"
)

// typist types into a shell that runs on a terminal.
type typist struct {
	t      *testing.T
	shell  *program.Exporter
	keys   io.Writer
	screen *program.Output
	lease  string // the command line of lease, without its command
}

const (
	ctrlC = "\x03"
	ctrlZ = "\x1a"
)

// newTypist starts an interactive shell.
func newTypist(t *testing.T, s *leaseServer) *typist {
	t.Helper()
	master, slave := openTerminal(t, unix.Winsize{Row: 50, Col: 200})
	cmd := exec.Command("bash", "--norc", "--noprofile", "--noediting", "-i")
	cmd.Env = append(os.Environ(), "PS1=", "PS2=", "HISTFILE=", "TERM=dumb")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = slave, slave, slave
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	k := &typist{t: t, keys: master, screen: new(program.Output), lease: strings.Join(append(s.command(t).Args, "--"), " ")}
	k.shell = program.Launch(t, cmd)
	slave.Close()
	go func() { _, _ = io.Copy(k.screen, master) }()
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("the screen:\n%s", k.screen.String())
		}
	})
	return k
}

func (k *typist) press(keys string) {
	k.t.Helper()
	if _, err := io.WriteString(k.keys, keys); err != nil {
		k.t.Fatal(err)
	}
}

// enter types a line. The screen shows it as well: what await waits for must not be in it, so that quotes separate its letters.
func (k *typist) enter(line string) { k.press(line + "\n") }

// await waits until a text has been so often on the screen.
func (k *typist) await(text string, times int) {
	k.t.Helper()
	k.shell.Await(fmt.Sprintf("%d times %q on the screen", times, text), func() bool { return strings.Count(k.screen.String(), text) >= times })
}

// endless returns a command line that shows "ready" and then does nothing until Ctrl-C ends it. A shell that shows it and executes sleep
// loses a Ctrl-C in between, and a program that reads the terminal takes what is typed next.
func endless(t *testing.T) string {
	file := filepath.Join(t.TempDir(), "f")
	if err := os.WriteFile(file, []byte("ready\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return "tail -f " + file
}

func TestCtrlCReachesTheCommandOnce(t *testing.T) {
	k := newTypist(t, newLeaseServer(t))
	k.enter(k.lease + ` bash -c 'trap "echo g""ot it" INT; echo re""ady; for n in {1..2000}; do sleep 0.03; done'`)
	k.await("ready", 1)
	for times := 1; times <= 3; times++ {
		k.press(ctrlC)
		k.await("got it", times)
		time.Sleep(200 * time.Millisecond)
		if seen := strings.Count(k.screen.String(), "got it"); seen != times {
			t.Fatalf("the command got SIGINT %d times, want %d", seen, times)
		}
	}
}

// As with any other program: a shell that sees that Ctrl-C ended its command ends as well, instead of going on with the next one.
func TestCtrlCEndsTheScriptAroundTheCommand(t *testing.T) {
	s := newLeaseServer(t)
	k := newTypist(t, s)
	k.enter(`bash -c '` + k.lease + ` ` + endless(t) + `; echo went"" on'`)
	k.await("ready", 1)
	k.press(ctrlC)
	k.enter(`echo "co""de $?"`)
	k.await("code 130", 1)
	if strings.Contains(k.screen.String(), "went on") || s.requests() != "POST DELETE" {
		t.Errorf("the script went on, or the lease was not given back: %s", s.requests())
	}
}

// The terminal stops both with Ctrl-Z. The shell must see that, and be able to continue both.
func TestACommandCanBeStoppedAndContinued(t *testing.T) {
	s := newLeaseServer(t)
	s.ttl = time.Second
	k := newTypist(t, s)
	k.enter(k.lease + ` bash -c 'echo re""ady; read -r line; echo "li""ne $line"; kill -STOP $$; echo ba""ck; exit 7'`)
	k.await("ready", 1)
	k.press(ctrlZ)
	k.await("Stopped", 1)
	k.enter(`echo "sh""ell $?"`)
	k.await("shell 1", 1) // 128 and SIGTSTP or SIGSTOP
	stopped := strings.Count(s.requests(), "renew")
	k.enter("fg")
	s.awaitRequests(k.shell, "renew", stopped+1)
	k.enter("typed")
	k.await("line typed", 1)
	k.await("Stopped", 2) // by its own signal
	k.enter("fg")
	k.await("back", 1)
	k.enter(`echo "co""de $?"`)
	k.await("code 7", 1)
	if requests := s.requests(); !strings.HasSuffix(requests, " DELETE") {
		t.Errorf("requests %q", requests)
	}
}

// A shell takes the terminal for its own jobs.
func TestACommandMayBeAnInteractiveShell(t *testing.T) {
	s := newLeaseServer(t)
	k := newTypist(t, s)
	k.enter(k.lease + " bash --norc --noprofile --noediting -i")
	k.enter(`echo "po""rt $PORT"`)
	k.await("port 30001", 1)
	k.enter(endless(t))
	k.await("ready", 1)
	k.press(ctrlC)
	k.enter(`echo "in""side $?"`)
	k.await("inside 130", 1)
	// Without a trap, bash goes on with the loop if SIGINT comes when sleep has just ended by itself.
	k.enter(`bash -c 'trap "echo con\"\"tinued" CONT; trap exit INT; echo wait""ing; while sleep 0.05; do :; done'`)
	k.await("waiting", 1)
	k.press(ctrlZ)
	k.await("Stopped", 1)
	k.enter("fg")
	k.await("continued", 1) // not earlier: bash shows a job before it gives it the terminal
	k.press(ctrlC)
	k.enter("exit 5")
	k.enter(`echo "out""side $?"`)
	k.await("outside 5", 1)
	if requests := s.requests(); requests != "POST DELETE" {
		t.Errorf("requests %q", requests)
	}
}
