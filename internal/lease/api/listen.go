//go:build linux

package api

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// unixScheme is what the address of a Unix socket begins with.
	unixScheme = "unix:"
	// maxPath is how long the path of a socket may be, in bytes: sun_path in unix(7) has one more for its end.
	maxPath = 107
	// answerPatience is how long the start waits for who listens on a socket.
	answerPatience = 2 * time.Second
	// sendBuffer and receiveBuffer are what the kernel keeps for each connection of TCP, in bytes. By default it keeps up to 4 and 6 MiB.
	sendBuffer    = 64 << 10
	receiveBuffer = 16 << 10
)

// Port returns the TCP port of an address, or 0 if it is a Unix socket's.
func Port(address string) uint16 {
	_, service, err := net.SplitHostPort(address)
	if err != nil || strings.HasPrefix(address, unixScheme) {
		return 0
	}
	port, _ := net.LookupPort("tcp", service)
	return uint16(port)
}

func listen(address string) (net.Listener, error) {
	if path, is := strings.CutPrefix(address, unixScheme); is {
		return listenUnix(path)
	}
	config := net.ListenConfig{Control: func(_, _ string, raw syscall.RawConn) error {
		return raw.Control(func(fd uintptr) {
			_ = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_SNDBUF, sendBuffer)
			_ = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUF, receiveBuffer)
		})
	}}
	return config.Listen(context.Background(), "tcp", address)
}

// listenUnix listens on a socket to which every user may connect: who that is, the kernel says.
func listenUnix(path string) (net.Listener, error) {
	switch {
	case path == "" || path[0] == '@': // net takes the latter for an abstract socket, which has no permissions
		return nil, fmt.Errorf("%q is no path of a socket: want one such as unix:/run/listen_exporter/lease.sock", path)
	case len(path) > maxPath:
		return nil, fmt.Errorf("the path of a socket is %d bytes long: want at most %d (unix(7)): %s", len(path), maxPath, path)
	}
	if err := makeRoom(path); err != nil {
		return nil, err
	}
	listener, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return nil, err
	}
	if err := os.Chmod(path, 0o666); err != nil {
		_ = listener.Close()
		return nil, err
	}
	return listener, nil
}

// makeRoom removes a socket on which nobody listens any more, and makes the directory if it is not there.
func makeRoom(path string) error {
	info, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		dir := filepath.Dir(path)
		if os.Mkdir(dir, 0o755) == nil {
			return os.Chmod(dir, 0o755) // whatever the umask is
		}
		return nil
	}
	if err != nil {
		return err
	}
	if info.Mode().Type() != fs.ModeSocket {
		return fmt.Errorf("%s is there, and is not a socket: it is not replaced", path)
	}
	conn, err := net.DialTimeout("unix", path, answerPatience)
	switch {
	case err == nil:
		_ = conn.Close()
		return fmt.Errorf("somebody listens on %s: want a path of the exporter's own", path)
	case errors.Is(err, unix.ECONNREFUSED):
		return os.Remove(path)
	default:
		return fmt.Errorf("whether somebody listens on %s is not known: %w", path, err)
	}
}
