//go:build linux

package api

import (
	"context"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/go-kit/log"
	"golang.org/x/sys/unix"

	"github.com/listen-exporter/listen_exporter/test/host"
)

// open opens a server that does not run.
func open(address string) (*Server, error) {
	return Open(Options{Leases: new(fake), Address: address, Logger: log.NewNopLogger(), Toolkit: slog.New(slog.DiscardHandler)})
}

func TestOnlyASocketOnWhichNobodyListensIsReplaced(t *testing.T) {
	for _, c := range []struct {
		name   string
		before func(path string) error
		wrong  string // a part of the error
	}{
		{"nothing", func(string) error { return nil }, ""},
		{"a socket that was left", func(path string) error { return bind(path, unix.SOCK_STREAM, false) }, ""},
		{"a socket for datagrams that was left", func(path string) error { return bind(path, unix.SOCK_DGRAM, false) }, ""},
		{"a socket on which somebody listens", func(path string) error { return bind(path, unix.SOCK_STREAM, true) }, "somebody listens on"},
		{"a socket on which somebody takes datagrams", func(path string) error { return bind(path, unix.SOCK_DGRAM, true) }, "not known"},
		{"a file", func(path string) error { return os.WriteFile(path, []byte("kept"), 0o600) }, "is not a socket"},
		{"a directory", func(path string) error { return os.Mkdir(path, 0o700) }, "is not a socket"},
		{"a pipe", func(path string) error { return unix.Mkfifo(path, 0o600) }, "is not a socket"},
		{"a link to a socket that was left", func(path string) error {
			if err := bind(path+"2", unix.SOCK_STREAM, false); err != nil {
				return err
			}
			return os.Symlink(path+"2", path)
		}, "is not a socket"},
		{"a link to nothing", func(path string) error { return os.Symlink("nothing", path) }, "is not a socket"},
	} {
		t.Run(c.name, func(t *testing.T) {
			path := filepath.Join(host.OpenDir(t), "s") // a short name: the path of a socket has at most 107 bytes
			if err := c.before(path); err != nil {
				t.Fatal(err)
			}
			before, _ := os.Lstat(path)
			server, err := open("unix:" + path)
			after, gone := os.Lstat(path)
			if c.wrong != "" {
				if err == nil || !strings.Contains(err.Error(), c.wrong) || !strings.Contains(err.Error(), path) {
					t.Errorf("error %v, want one with %q", err, c.wrong)
				}
				if gone != nil || !os.SameFile(before, after) {
					t.Errorf("it is another one: %v", gone)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if err := server.listener.Close(); err != nil {
				t.Fatal(err)
			}
		})
	}
}

// bind makes a socket at a path. Nobody has it open afterwards unless it is kept.
func bind(path string, kind int, keep bool) error {
	fd, err := unix.Socket(unix.AF_UNIX, kind|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	if err := unix.Bind(fd, &unix.SockaddrUnix{Name: path}); err != nil {
		return err
	}
	if kind == unix.SOCK_STREAM {
		if err := unix.Listen(fd, 1); err != nil {
			return err
		}
	}
	if keep {
		return nil // until the end of the process
	}
	return unix.Close(fd)
}

func TestAnAddressThatCannotBeAServersIsAnError(t *testing.T) {
	dir := t.TempDir()
	for _, c := range []struct{ name, address, wrong string }{
		{"an empty path", "unix:", "want one such as unix:/run/listen_exporter/lease.sock"},
		{"a socket without a file", "unix:@leases", "no path of a socket"},
		{"a path that is longer than the kernel takes", "unix:" + dir + strings.Repeat("/x", 100), "want at most 107"},
		{"a directory whose directory is not there", "unix:" + dir + "/a/b/s", "no such file or directory"},
		{"a directory that is a file", "unix:/proc/version/s", "not a directory"},
		{"a port without passwords", "127.0.0.1:0", "--web.config.file with basic_auth_users"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if _, err := open(c.address); err == nil || !strings.Contains(err.Error(), c.wrong) {
				t.Errorf("error %v, want one with %q", err, c.wrong)
			}
		})
	}
}

func TestEveryUserMayConnectWhateverTheUmask(t *testing.T) {
	defer unix.Umask(unix.Umask(0o077))
	dir := host.OpenDir(t)
	path := dir + "/run/" + strings.Repeat("x", maxPath-len(dir)-len("/run/"))
	server, err := open("unix:" + path)
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]fs.FileMode{path: 0o666, dir + "/run": 0o755} {
		if info, err := os.Stat(name); err != nil || info.Mode().Perm() != want {
			t.Errorf("%s has the mode %v, %v, want %v", name, info.Mode().Perm(), err, want)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := server.Run(ctx); err != nil {
		t.Error(err)
	}
	if _, err := net.Dial("unix", path); err == nil {
		t.Error("the server has ended, and somebody listens")
	}
	if _, err := os.Lstat(path); err == nil {
		t.Error("the server has ended, and its socket is still there")
	}
}

func TestThePortOfAnAddress(t *testing.T) {
	for address, want := range map[string]uint16{
		"unix:/run/lease.sock": 0, "unix:/run/a:80": 0, "127.0.0.1:9999": 9999, "[::1]:9999": 9999, ":http": 80, "nonsense": 0,
	} {
		if got := Port(address); got != want {
			t.Errorf("the port of %s is %d, want %d", address, got, want)
		}
	}
}
