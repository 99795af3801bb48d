package registry

import (
	"errors"
	"fmt"
	"io"
	"os"
	"syscall"
	"time"
)

// Load reads the registry file at path, which may be a pipe. What is wrong in its content is told as Faults.
func Load(path string) (*Registry, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("read the registry: %w", err)
	}
	defer func() { _ = f.Close() }()
	data, _, err := read(f, settleTime)
	if err != nil {
		return nil, fmt.Errorf("read the registry: %w", err)
	}
	return Parse(path, data)
}

// identity tells one state of a file from another, as far as the file system does.
type identity struct {
	device, inode    uint64
	size             int64
	modified, status time.Time
}

func identityOf(info os.FileInfo) identity {
	id := identity{size: info.Size(), modified: info.ModTime()}
	if stat, ok := info.Sys().(*syscall.Stat_t); ok {
		// Their types differ between architectures.
		id.device, id.inode, id.status = uint64(stat.Dev), stat.Ino, time.Unix(stat.Ctim.Unix())
	}
	return id
}

// latest is when the file changed: a time of modification can be set back, the other cannot.
func (id identity) latest() time.Time {
	if id.status.After(id.modified) {
		return id.status
	}
	return id.modified
}

// A file that is written in place is whole when its last byte is: until it has been left alone for settleTime, it may be half of
// what it is to be, and parse all the same. That is waited for, but no longer than maxSettles such times, which a scrape bears.
const (
	settleTime = 50 * time.Millisecond
	maxSettles = 5
)

// settled waits until the file that f has open has been left alone for rest, and returns its identity.
func settled(f *os.File, rest time.Duration) (id identity, err error) {
	for deadline := time.Now().Add(maxSettles * rest); ; {
		info, err := f.Stat()
		if err != nil {
			return identity{}, err
		}
		id = identityOf(info)
		now := time.Now()
		age := now.Sub(id.latest())
		// The clock of a file server may be ahead.
		if !info.Mode().IsRegular() || age >= rest || age < 0 || now.After(deadline) {
			return id, nil
		}
		time.Sleep(rest - age)
	}
}

// maxTries is how often a file that is being written is read, until it stays the same meanwhile.
const maxTries = 3

// read returns what is in f once it has been left alone for rest, or its first bytes if it is too large: one more than may be.
func read(f *os.File, rest time.Duration) (data []byte, id identity, err error) {
	for range maxTries {
		if id, err = settled(f, rest); err != nil {
			return nil, identity{}, err
		}
		if data, err = io.ReadAll(io.LimitReader(f, maxSize+1)); err != nil {
			return nil, identity{}, err
		}
		after, err := f.Stat()
		if err != nil {
			return nil, identity{}, err
		}
		if !after.Mode().IsRegular() || identityOf(after) == id {
			break
		}
		if _, err := f.Seek(0, io.SeekStart); err != nil {
			return nil, identity{}, err
		}
	}
	return data, id, nil
}

var errNotRegular = errors.New("not a regular file: want one, which can be read again")

// readRegular returns what is in the regular file at path, as read does. For the writer of a pipe it does not wait.
func readRegular(path string, rest time.Duration) (data []byte, id identity, err error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, identity{}, err
	}
	defer func() { _ = f.Close() }()
	info, err := f.Stat()
	if err != nil {
		return nil, identity{}, err
	}
	if !info.Mode().IsRegular() {
		return nil, identity{}, &os.PathError{Op: "open", Path: path, Err: errNotRegular}
	}
	return read(f, rest)
}
