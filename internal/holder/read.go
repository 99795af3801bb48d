package holder

import (
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// Limits of the files that are read. What a container mounts at --path.procfs or below it need not be a procfs.
const (
	maxName   = 4 << 10 // comm has 16 bytes, status some thousands
	maxCgroup = 1 << 20 // a line for each hierarchy, each with a path of 4096 bytes at most
	maxPIDs   = 8 << 20 // about a million processes
)

// readFile reads a regular file of a procfs or a cgroup hierarchy. It never waits for a fifo's writer.
func readFile(path string, limit int64) ([]byte, error) {
	file, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK|unix.O_NOCTTY, 0)
	if err != nil {
		return nil, err
	}
	defer func() { _ = file.Close() }()
	info, err := file.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, notRegular(path)
	}
	content, err := io.ReadAll(io.LimitReader(file, limit+1))
	if err == nil && int64(len(content)) > limit {
		err = fmt.Errorf("%s is wrong: want at most %d bytes", path, limit)
	}
	return content, err
}

func notRegular(path string) error { return fmt.Errorf("%s is wrong: want a regular file", path) }

// openDir opens a directory, and nothing else: opening a fifo would wait for its writer.
func openDir(path string) (*os.File, error) {
	return os.OpenFile(path, os.O_RDONLY|unix.O_DIRECTORY, 0)
}
