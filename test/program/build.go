//go:build linux

// Package program runs the real program in tests: it builds it, starts it, and reads what it serves and logs. Its own tests are
// those of the program as a whole.
package program

import (
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"sync"
	"syscall"
	"testing"

	"github.com/listen-exporter/listen_exporter/test/host"
)

// The environment variables with the path of the program, for the processes that netnstest makes of a test. The second one is
// built with the race detector.
const (
	pathVariable = "LISTEN_EXPORTER_TEST_BINARY"
	raceVariable = "LISTEN_EXPORTER_TEST_RACE_BINARY"
)

// built is the directory of what this process has built.
var built struct {
	sync.Mutex
	dir string
}

// Main runs the tests of a package and removes what they have built. It is for TestMain.
func Main(m *testing.M) {
	if signal.Ignored(syscall.SIGHUP) {
		signal.Notify(make(chan os.Signal, 1), syscall.SIGHUP) // or what nohup(1) has it ignore is ignored by the program too
	}
	code := m.Run()
	if built.dir != "" {
		_ = os.RemoveAll(built.dir)
	}
	os.Exit(code)
}

// Path returns the path of the program as make builds it. It is built once.
func Path(tb testing.TB) string {
	tb.Helper()
	return build(tb, pathVariable, "listen_exporter", "CGO_ENABLED=0")
}

// Command returns a command that runs the program, with the race detector if the test has it.
func Command(tb testing.TB, args ...string) *exec.Cmd {
	tb.Helper()
	path := ""
	if raceDetector {
		path = build(tb, raceVariable, "listen_exporter_race", "CGO_ENABLED=1", "-race")
	} else {
		path = Path(tb)
	}
	cmd := exec.Command(path, args...)
	cmd.Env = append(os.Environ(), "GORACE=atexit_sleep_ms=0")
	return cmd
}

func build(tb testing.TB, variable, name, environment string, flags ...string) string {
	tb.Helper()
	built.Lock()
	defer built.Unlock()
	if path := os.Getenv(variable); path != "" {
		return path
	}
	if built.dir == "" {
		dir, err := os.MkdirTemp("", "listen_exporter-test-")
		if err != nil {
			tb.Fatal(err)
		}
		built.dir = dir
	}
	path := filepath.Join(built.dir, name)
	cmd := exec.Command("go", append(append([]string{"build"}, flags...), "-o", path, ".")...)
	cmd.Dir, cmd.Env = host.Root, append(os.Environ(), environment)
	if output, err := cmd.CombinedOutput(); err != nil {
		tb.Fatalf("%s: %v\n%s", cmd, err, output)
	}
	_ = os.Setenv(variable, path) // for this process and those that it starts
	return path
}
