//go:build linux

package socket

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

var errNotRegular = errors.New("not a regular file")

// checkRegular returns an error unless the file at path is a regular one. To open another may have an effect, or wait for ever,
// as a FIFO does.
func checkRegular(path string) error {
	var stat unix.Stat_t
	if err := unix.Stat(path, &stat); err != nil {
		return err
	}
	if stat.Mode&unix.S_IFMT != unix.S_IFREG {
		return errNotRegular
	}
	return nil
}

// openRegular opens a regular file for reading. It never waits for it, whatever takes its place meanwhile.
func openRegular(path string) (fd int, err error) {
	if err := checkRegular(path); err != nil {
		return -1, err
	}
	return unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
}

// foreignError is an error that shows bytes which somebody else wrote, such as a row of a table. They are for the log only.
type foreignError struct {
	place  string // what is wrong, and where
	detail error  // shows the bytes
}

// Error returns the error for the log.
func (e *foreignError) Error() string { return e.place + ": " + e.detail.Error() }

// Public returns the error for an answer to the network.
func (e *foreignError) Public() string { return e.place }

func (e *foreignError) Unwrap() error { return e.detail }

// at adds to an error where it happened, for the log and for the network.
func at(place string, err error) error {
	if foreign := new(foreignError); errors.As(err, &foreign) {
		return &foreignError{place + ": " + foreign.place, foreign.detail}
	}
	return fmt.Errorf("%s: %w", place, err)
}
