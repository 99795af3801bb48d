package registry

import (
	"fmt"
	"io"
	"os"
	"syscall"
	"time"
)

// Load reads the registry file at path. What is wrong in its content is told as Faults.
func Load(path string) (*Registry, error) {
	data, _, err := read(path)
	if err != nil {
		return nil, err
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

// maxTries is how often a file that is being written is read, until it stays the same meanwhile.
const maxTries = 3

// read returns the content of the file at path, or the first bytes of one that is too large: one more than may be.
func read(path string) (data []byte, id identity, err error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, identity{}, fmt.Errorf("read the registry: %w", err)
	}
	defer func() { _ = f.Close() }()
	for range maxTries {
		before, err := f.Stat()
		if err != nil {
			return nil, identity{}, fmt.Errorf("read the registry: %w", err)
		}
		if data, err = io.ReadAll(io.LimitReader(f, maxSize+1)); err != nil {
			return nil, identity{}, fmt.Errorf("read the registry: %w", err)
		}
		id = identityOf(before)
		if !before.Mode().IsRegular() {
			break
		}
		after, err := f.Stat()
		if err != nil {
			return nil, identity{}, fmt.Errorf("read the registry: %w", err)
		}
		if identityOf(after) == id {
			break
		}
		if _, err := f.Seek(0, io.SeekStart); err != nil {
			return nil, identity{}, fmt.Errorf("read the registry: %w", err)
		}
	}
	return data, id, nil
}
