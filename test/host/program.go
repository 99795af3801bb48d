//go:build linux

// Package host gives a test a Linux host of its own, and makes a subtest of each check that is made there. It is only for tests.
//
// The tests that use it need minutes, root, and tools that few machines have, so plain `go test ./...` skips them. The
// environment variable [Variable] switches them on, and make test-containers and its like set it.
package host

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// Variable names the environment variable with the absolute path of the listen_exporter binary that is tested.
const Variable = "LISTEN_EXPORTER_PROGRAM"

// Program returns the path of the program. Where [Variable] is not set the test is skipped, with the make target that sets it.
func Program(tb testing.TB, target string) string {
	tb.Helper()
	program := os.Getenv(Variable)
	if program == "" {
		tb.Skipf("make %s runs it", target)
	}
	return program
}

// NeedRoot skips the test unless it runs as root.
func NeedRoot(tb testing.TB) {
	tb.Helper()
	if os.Geteuid() != 0 {
		tb.Skip("needs root")
	}
}

// NeedTools skips the test unless all of these commands are on the PATH.
func NeedTools(tb testing.TB, names ...string) {
	tb.Helper()
	for _, name := range names {
		if _, err := exec.LookPath(name); err != nil {
			tb.Skip("needs " + name)
		}
	}
}

// Root is the root directory of the repository, found from the directory in which the test binary starts, as a test may change
// that. It is empty outside the repository, such as in the guest of test/kernels.
var Root = findRoot()

func findRoot() string {
	dir, err := os.Getwd()
	for err == nil {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir
		}
		if dir == filepath.Dir(dir) {
			break
		}
		dir = filepath.Dir(dir)
	}
	return ""
}

// Output runs a command for at most the limit and returns what it writes to stdout. An error has all that it wrote.
func Output(limit time.Duration, name string, arguments ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, arguments...)
	cmd.WaitDelay = time.Second
	return output(cmd)
}

func output(cmd *exec.Cmd) (string, error) {
	var stdout, all strings.Builder
	cmd.Stdout, cmd.Stderr = io.MultiWriter(&stdout, &all), &all
	if err := cmd.Run(); err != nil {
		return stdout.String(), fmt.Errorf("run %s: %w\n%s", strings.Join(cmd.Args, " "), err, strings.TrimSpace(all.String()))
	}
	return stdout.String(), nil
}

// Podman runs a podman that keeps its files in a directory. Its run directory is in /run, because it refuses a path of more than
// 50 characters. It is for a host of [Own].
func Podman(dir string, arguments ...string) (string, error) {
	output, err := Output(limit, "podman", append([]string{
		"--root", filepath.Join(dir, "root"), "--runroot", "/run/podman", "--tmpdir", filepath.Join(dir, "tmp"),
		"--storage-driver", "vfs", "--runtime", "runc", "--cgroup-manager", "cgroupfs", "--events-backend", "none",
	}, arguments...)...)
	return strings.TrimSpace(output), err
}

// Await calls done every 100 ms until it returns nil. It returns done's last error when the limit is over.
func Await(limit time.Duration, done func() error) error {
	for deadline := time.Now().Add(limit); ; time.Sleep(100 * time.Millisecond) {
		err := done()
		if err == nil || time.Now().After(deadline) {
			return err
		}
	}
}

// Get returns the body of an HTTP answer with the status 200.
func Get(url string) (string, error) {
	client := http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	response, err := client.Get(url)
	if err != nil {
		return "", err
	}
	body, err := io.ReadAll(response.Body)
	if err = errors.Join(err, response.Body.Close()); err == nil && response.StatusCode != http.StatusOK {
		err = fmt.Errorf("GET %s: %s: %s", url, response.Status, body)
	}
	return string(body), err
}

// Install copies a program to where every user may run it.
func Install(from, to string) error {
	content, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	return os.WriteFile(to, content, 0o755)
}

// OpenDir makes a directory that every user may enter, unlike one of t.TempDir. The test's end removes it.
func OpenDir(tb testing.TB) string {
	tb.Helper()
	dir, err := os.MkdirTemp("", "listen_exporter")
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			tb.Error(err)
		}
	})
	if err := os.Chmod(dir, 0o755); err != nil {
		tb.Fatal(err)
	}
	return dir
}
