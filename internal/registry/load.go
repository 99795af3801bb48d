package registry

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"syscall"
	"time"
)

// Load reads the registry file at path, which may be a pipe. Mistakes in its content are Faults.
func Load(path string) (*Registry, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("read the registry: %w", err)
	}
	defer func() { _ = f.Close() }()
	data, err := io.ReadAll(io.LimitReader(f, maxSize+1))
	if err != nil {
		return nil, fmt.Errorf("read the registry: %w", err)
	}
	return Parse(path, data)
}

var errNotRegular = errors.New("not a regular file: want one, which can be read again")

// readRegular returns the content of the regular file at path, and when it was modified. It does not wait for the writer of a
// pipe.
func readRegular(path string) (data []byte, modified time.Time, err error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, time.Time{}, err
	}
	defer func() { _ = f.Close() }()
	info, err := f.Stat()
	if err != nil {
		return nil, time.Time{}, err
	}
	if !info.Mode().IsRegular() {
		return nil, time.Time{}, &os.PathError{Op: "open", Path: path, Err: errNotRegular}
	}
	var content bytes.Buffer
	content.Grow(int(min(info.Size(), maxSize)) + bytes.MinRead)
	_, err = content.ReadFrom(io.LimitReader(f, maxSize+1)) // one byte more than Parse accepts
	return content.Bytes(), info.ModTime(), err
}
