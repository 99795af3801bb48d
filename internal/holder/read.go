//go:build linux

package holder

import (
	"errors"
	"fmt"
	"os"
	"slices"

	"golang.org/x/sys/unix"
)

// Limits of the files that are read. What a container mounts at --path.procfs or below it need not be a procfs.
const (
	maxName   = 4 << 10 // comm has 16 bytes
	maxStatus = 1 << 20 // status has some thousands, and 65536 groups at most
	maxCgroup = 1 << 20 // a line for each hierarchy, each with a path of 4096 bytes at most
	maxPIDs   = 8 << 20 // about a million processes
)

// readFile reads a regular file of a procfs or a cgroup hierarchy. It never waits for a fifo's writer. Most of these files are short,
// and a scrape waits for some of them: os.ReadFile takes twice as long.
func readFile(path string, limit int) ([]byte, error) {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: path, Err: err}
	}
	defer func() { _ = unix.Close(fd) }()
	var stat unix.Stat_t
	if err := unix.Fstat(fd, &stat); err != nil {
		return nil, &os.PathError{Op: "stat", Path: path, Err: err}
	}
	if stat.Mode&unix.S_IFMT != unix.S_IFREG {
		return nil, notRegular(path)
	}
	content := make([]byte, 0, 512)
	for {
		n, err := unix.Read(fd, content[len(content):cap(content)])
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case err != nil:
			return nil, &os.PathError{Op: "read", Path: path, Err: err}
		case n == 0:
			return content, nil
		}
		content = content[:len(content)+n]
		if len(content) > limit {
			return nil, fmt.Errorf("%s is wrong: want at most %d bytes", path, limit)
		}
		content = slices.Grow(content, 1)
	}
}

func notRegular(path string) error { return fmt.Errorf("%s is wrong: want a regular file", path) }

// openDir opens a directory, and nothing else: opening a fifo would wait for its writer.
func openDir(path string) (*os.File, error) {
	return os.OpenFile(path, os.O_RDONLY|unix.O_DIRECTORY, 0)
}
