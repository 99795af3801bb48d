//go:build linux

package command

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/listen-exporter/listen_exporter/test/program"
)

// Each frame begins at the top and is as high as the terminal at most, and a signal gives the terminal back.
func TestWatchRedrawsTheTableUntilASignal(t *testing.T) {
	for _, test := range []struct {
		name   string
		args   string
		rows   uint16
		signal unix.Signal
		first  string // in a frame
		second string // in a later one
	}{
		{"a table", "", 24, unix.SIGINT, "\ntcp    0.0.0.0       22", "\n5 listeners\n"},
		{"a low terminal", "", 6, unix.SIGTERM, "… and 9 more lines", "… and 8 more lines"},
		{"a port", "9999", 24, unix.SIGHUP, "nothing listens on 9999", "127.0.0.1  9999"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			procfs := program.NewProcfs(t)
			signal.Notify(make(chan os.Signal, 1), syscall.SIGHUP) // under nohup, the program would ignore it as the test does
			args := append(strings.Fields("list --watch "+test.args), "--path.procfs="+procfs)
			cmd, master := startOnTerminal(t, unix.Winsize{Row: test.rows, Col: 200}, []string{"TERM=xterm", "NO_COLOR=1"}, args...)
			late := time.AfterFunc(time.Minute, func() { _ = cmd.Process.Kill() }) // which ends the frames
			defer late.Stop()
			frames := bufio.NewScanner(master)
			frames.Split(splitFrames)
			next := func(want string) {
				t.Helper()
				var frame string
				for frames.Scan() {
					frame = strings.NewReplacer(clearLine, "", "\r", "").Replace(frames.Text())
					if lines := strings.Count(frame, "\n") + 1; lines > int(test.rows) {
						t.Errorf("a frame of %d lines on a terminal of %d:\n%s", lines, test.rows, frame)
					}
					if strings.Contains(frame, want) {
						return
					}
				}
				t.Errorf("no frame with %q, but at last\n%s", want, frame)
			}
			next(test.first)
			program.WriteTable(t, procfs, "tcp", program.TCPHeader+
				"   0: 0100007F:270F 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 1001 1 0000000000000000 100 0 0 10 0\n")
			next(test.second)
			if err := cmd.Process.Signal(test.signal); err != nil {
				t.Fatal(err)
			}
			if rest := readToEnd(t, cmd, master); !strings.HasSuffix(rest, leaveScreen) {
				t.Errorf("the terminal is not given back: %q", rest)
			}
		})
	}
}

// splitFrames is a bufio.SplitFunc of what is drawn between one clearBelow and the next.
func splitFrames(data []byte, _ bool) (advance int, frame []byte, err error) {
	if end := bytes.Index(data, []byte(clearBelow)); end >= 0 {
		return end + len(clearBelow), data[:end], nil
	}
	return 0, nil, nil
}

// A terminal of another size gets a frame at once: the next one would come after 2 s, and this one comes before.
func TestWatchFitsATerminalThatIsResized(t *testing.T) {
	cmd, master := startOnTerminal(t, unix.Winsize{Row: 24, Col: 200}, []string{"TERM=xterm", "NO_COLOR=1"},
		"list", "--watch", "--path.procfs="+program.NewProcfs(t))
	late := time.AfterFunc(time.Minute, func() { _ = cmd.Process.Kill() })
	defer late.Stop()
	frames := bufio.NewScanner(master)
	frames.Split(splitFrames)
	frames.Scan()
	if err := unix.IoctlSetWinsize(int(master.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Row: 5, Col: 200}); err != nil {
		t.Fatal(err)
	}
	// The terminal is not the program's own, so the kernel does not do this for the test.
	if err := cmd.Process.Signal(unix.SIGWINCH); err != nil {
		t.Fatal(err)
	}
	for frames.Scan() {
		if strings.Count(frames.Text(), "\n") == 4 {
			break
		}
	}
	if err := cmd.Process.Signal(unix.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if rest := readToEnd(t, cmd, master); !strings.HasSuffix(rest, leaveScreen) {
		t.Errorf("the terminal is not given back: %q", rest)
	}
}

// Where nothing can be drawn, one table follows the other, without an escape sequence. Under nohup they outlive the terminal.
func TestWatchWritesToAPipe(t *testing.T) {
	cmd := program.Command(t, "list", "--watch", "--path.procfs="+program.NewProcfs(t))
	cmd.Args = append([]string{"sh", "-c", `trap "" HUP && exec "$@"`, "sh", cmd.Path}, cmd.Args[1:]...)
	cmd.Path = "/bin/sh"
	e := program.Launch(t, cmd)
	e.Await("a table", func() bool { return strings.Contains(e.Stdout.String(), "PROTO ") })
	e.Signal(unix.SIGHUP)
	e.Await("two tables", func() bool { return strings.Count(e.Stdout.String(), "PROTO ") == 2 })
	e.Signal(unix.SIGTERM)
	if code := e.Wait(); code != ExitOK {
		t.Errorf("exit code %d: %s", code, &e.Stderr)
	}
	if text := e.Stdout.String(); strings.Count(text, "\ntcp    0.0.0.0       22 ") < 2 || strings.Contains(text, "\x1b") {
		t.Errorf("want two tables:\n%q", text)
	}
}

// A shell puts each job into a process group of its own. Where none would continue the program, as with ssh -t, Ctrl-Z must not stop it.
func TestWatchIsSuspendedOnlyWhereAShellContinuesIt(t *testing.T) {
	for name, attributes := range map[string]*syscall.SysProcAttr{"a job": {Setpgid: true}, "a session of its own": {Setsid: true}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cmd := program.Command(t, "list", "--watch", "--path.procfs="+program.NewProcfs(t))
			cmd.Env = append(cmd.Env, "TERM=xterm")
			cmd.SysProcAttr = attributes
			master := startCommandOnTerminal(t, unix.Winsize{Row: 24, Col: 200}, cmd)
			late := time.AfterFunc(time.Minute, func() { _ = cmd.Process.Kill() })
			defer late.Stop()
			frames := bufio.NewScanner(master)
			frames.Split(splitFrames)
			frames.Scan()
			signal := func(s unix.Signal) {
				if err := cmd.Process.Signal(s); err != nil {
					t.Error(err)
				}
			}
			signal(unix.SIGTSTP)
			want := toTop
			if attributes.Setpgid {
				want = leaveScreen + enterScreen + toTop
				var status unix.WaitStatus
				if _, err := unix.Wait4(cmd.Process.Pid, &status, unix.WUNTRACED, nil); err != nil || !status.Stopped() {
					t.Errorf("not stopped: %v %v", status, err)
				}
				signal(unix.SIGCONT)
			}
			frames.Scan()
			if frame := frames.Text(); !strings.HasPrefix(frame, want) {
				t.Errorf("want %q at the start of the next frame: %q", want, frame)
			}
			signal(unix.SIGTERM)
			if rest := readToEnd(t, cmd, master); !strings.HasSuffix(rest, leaveScreen) {
				t.Errorf("the terminal is not given back: %q", rest)
			}
		})
	}
}

// Whoever asks for what does not exist learns so at once, and not from a table that stays empty.
func TestWatchEndsWhereThereIsNoFirstAnswer(t *testing.T) {
	procfs := "--path.procfs=" + program.NewProcfs(t)
	for args, want := range map[string]string{
		"nonsense":           `"nonsense" is not a port`,
		"--state=missing":    "needs a registry",
		"--registry.file=no": "no such file",
	} {
		code, stdout, stderr := program.Run(t, "list", "--watch", procfs, args)
		if code != ExitTrouble || stdout != "" || !strings.Contains(stderr, want) {
			t.Errorf("%s: exit code %d, want %d, and %q: %q, %q", args, code, ExitTrouble, want, stdout, stderr)
		}
	}
}

func TestWatchOnlyShowsTables(t *testing.T) {
	for _, flag := range []string{"--format=json", "--format=registry", "--format=prometheus", "--output=file"} {
		code, stdout, stderr := program.Run(t, "list", "--watch", flag)
		if want := fmt.Sprintf("leave out %s", strings.TrimSuffix(flag, "=file")); code != ExitTrouble || stdout != "" || !strings.Contains(stderr, want) {
			t.Errorf("%s: exit code %d, %q, %q", flag, code, stdout, stderr)
		}
	}
}
