//go:build linux

package incidents

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/listen-exporter/listen_exporter/test/host"
	"github.com/listen-exporter/listen_exporter/test/netnstest"
)

// The first argument of a program that does not accept at once.
const (
	deaf = "deaf" // nobody, until a line comes on its stdin
	lazy = "lazy" // it has a backlog of 0, and each client waits for one time between scrapes
)

// service is a program that listens on a host.
type service struct {
	host    *machine
	program string   // the name of its process
	sockets []string // such as tcp/0.0.0.0:80
	process *host.Process
}

func (s *service) start() error { return s.startOn(s.sockets...) }

// startOn starts the program with other sockets than its usual ones.
func (s *service) startOn(sockets ...string) error { return s.startAs(s.program, sockets...) }

// startAs starts a program with another name instead.
func (s *service) startAs(program string, sockets ...string) error {
	path := filepath.Join(s.host.world.dir, s.host.name+"-bin", program)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	if err := os.Symlink(s.host.world.self, path); err != nil && !errors.Is(err, os.ErrExist) {
		return err
	}
	return s.host.inside(func() error {
		process, err := host.StartReady(host.Again(roleService, path, sockets...))
		if err != nil {
			return fmt.Errorf("start %s on %s: %w", program, s.host.name, err)
		}
		s.process = process
		return nil
	})
}

// stop ends the program as a crash does.
func (s *service) stop() error {
	s.process.Kill()
	s.process = nil
	return nil
}

// moveTo restarts the program with other sockets.
func (s *service) moveTo(sockets ...string) error {
	return errors.Join(s.stop(), s.startOn(sockets...))
}

// serve makes a deaf program serve.
func (s *service) serve() error {
	_, err := io.WriteString(s.process.Input, "serve\n")
	return err
}

// beService is a program that listens on the sockets of its arguments until its input ends.
func beService(arguments []string) error {
	mode := ""
	if slices.Contains([]string{deaf, lazy}, arguments[0]) {
		mode, arguments = arguments[0], arguments[1:]
	}
	var descriptors []int
	for _, argument := range arguments {
		proto, address, _ := strings.Cut(argument, "/")
		fd, err := netnstest.Listen(proto, address)
		if err != nil {
			return err
		}
		switch mode {
		case deaf: // little room is soon full
			err = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, 1)
			if proto == "tcp" {
				err = errors.Join(err, unix.Listen(fd, 1))
			}
		case lazy:
			err = unix.Listen(fd, 0)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", argument, err)
		}
		descriptors = append(descriptors, fd)
	}
	hear := sync.OnceFunc(func() {
		for i, fd := range descriptors {
			go serve(fd, strings.HasPrefix(arguments[i], "tcp/"))
		}
	})
	switch mode {
	case "":
		hear()
	case lazy:
		go acceptLate(descriptors)
	}
	fmt.Println(host.Ready)
	for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
		hear()
	}
	return nil
}

// acceptLate accepts each client when it has waited.
func acceptLate(descriptors []int) {
	for _, fd := range descriptors {
		for {
			_, _ = unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, -1)
			time.Sleep(scrapeInterval)
			if client, _, err := unix.Accept(fd); err == nil {
				_ = unix.Close(client)
			}
		}
	}
}

// serve accepts and reads everything, and answers nothing.
func serve(fd int, tcp bool) {
	packet := make([]byte, 1)
	for {
		if tcp {
			if client, _, err := unix.Accept(fd); err == nil {
				_ = unix.Close(client)
			}
		} else {
			_, _, _ = unix.Recvfrom(fd, packet, 0)
		}
	}
}
