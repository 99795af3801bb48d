//go:build linux

// Package state keeps what the exporter remembers in a file, so that it outlives the exporter and the boot of the host. It does not
// know what that is.
package state

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	"github.com/go-kit/log"
	"github.com/go-kit/log/level"
	"golang.org/x/sys/unix"
)

const (
	// writeInterval is the least time between two writes.
	writeInterval = 5 * time.Second
	// lookInterval is how often there is a look at whether something has changed.
	lookInterval = time.Second
	// startPatience is how long the start waits for the file system, writePatience how long a write does, and endPatience how long
	// the end does. A network file system may never answer.
	startPatience = 5 * time.Second
	writePatience = 10 * time.Second
	endPatience   = 2 * time.Second
)

var errNoAnswer = errors.New("the file system does not answer: want one that does, on this host")

// saved is what a state file has.
type saved struct {
	written time.Time // by the wall clock of then
	content json.RawMessage
}

// File is the state file of a running exporter. Whatever is wrong with it is logged once and stops nothing.
type File struct {
	// Written reports whether the last write succeeded. Before the first one, it reports whether it may.
	Written atomic.Bool

	logger log.Logger
	// using has an element while the file system is at work on disk.
	using chan struct{}
	disk  disk

	trouble string // what is wrong now, or empty
}

// Open reads what was last saved in a file on a machine into content, which is a pointer, and locks the file. loaded is false if nothing
// was saved, or if it cannot be read: then content is of no use.
func Open(path, machine string, content any, logger log.Logger) (f *File, loaded bool) {
	path = filepath.Clean(path)
	f = &File{logger: log.With(logger, "file", path), using: make(chan struct{}, 1), disk: disk{path: path, machine: machine}}
	found := make(chan *saved, 1) // which nobody takes if it comes late
	err := f.use(context.Background(), startPatience, func(d *disk) error {
		saved, err := d.load()
		found <- saved
		return err
	})
	if !errors.Is(err, errNoAnswer) {
		if saved := <-found; saved != nil && saved.decode(content) != nil {
			err = errDamaged
		} else if saved != nil {
			f.disk.known, loaded = true, true
			level.Info(f.logger).Log("msg", "the memory goes on from the state file", "written", saved.written.Format(time.RFC3339))
		}
	}
	f.Written.Store(true)
	var is unfit
	switch {
	case err == nil:
	case !errors.As(err, &is):
		f.report(err)
	case errors.Is(err, errMissing):
		level.Info(f.logger).Log("msg", "the memory begins empty: there is no state file yet")
	default:
		level.Warn(f.logger).Log("msg", "the memory begins empty: the state file cannot be used, and is kept", "err", is, "kept_as", path+keptSuffix)
	}
	return f, loaded
}

// Keep writes content whenever it is another value, and once more when ctx is done. Then it returns. content returns a pointer to
// what does not change, or a struct of such pointers, or nil as long as nothing is known. Only one goroutine may call Keep.
func (f *File) Keep(ctx context.Context, content func() any) {
	var last any
	var tried time.Time
	ticker := time.NewTicker(lookInterval)
	defer ticker.Stop()
	for patience := writePatience; patience != endPatience; {
		select {
		case <-ctx.Done():
			ctx, patience = context.WithoutCancel(ctx), endPatience
		case <-ticker.C:
			if time.Since(tried) < writeInterval {
				continue
			}
		}
		if next := content(); next != nil && next != last {
			tried = time.Now()
			err := f.write(ctx, next, patience)
			switch {
			case err == nil:
				last = next
			case errors.Is(err, errBusy):
				f.report(err)
				return
			case errors.Is(err, context.Canceled):
				continue // to the last write
			}
			f.report(err)
		}
	}
}

func (f *File) write(ctx context.Context, content any, patience time.Duration) error {
	data, err := format(f.disk.machine, content) // which never changes
	if err != nil {
		return err
	}
	return f.use(ctx, patience, func(d *disk) error { return d.put(data) })
}

// use has the file system do something. While that hangs, there is nothing else.
func (f *File) use(ctx context.Context, patience time.Duration, do func(*disk) error) error {
	timeout := time.NewTimer(patience)
	defer timeout.Stop()
	select {
	case f.using <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	case <-timeout.C:
		return errNoAnswer
	}
	done := make(chan error, 1)
	go func() {
		defer func() { <-f.using }()
		done <- do(&f.disk)
	}()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	case <-timeout.C:
		return errNoAnswer
	}
}

// report logs when something is wrong, when that becomes something else, and when it ends.
func (f *File) report(err error) {
	f.Written.Store(err == nil)
	trouble := ""
	if err != nil {
		trouble = err.Error()
		// A full disk fails one system call or another.
		if number := unix.Errno(0); errors.As(err, &number) {
			trouble = number.Error()
		}
	}
	if trouble == f.trouble {
		return
	}
	f.trouble = trouble
	if err == nil {
		level.Info(f.logger).Log("msg", "the state file is written again")
		return
	}
	level.Warn(f.logger).Log("msg", "the state file cannot be written: what is remembered will be lost when the exporter ends", "err", mended(err))
}

// mended adds to an error of the kernel what to do.
func mended(err error) error {
	want := "want a path in a directory that the exporter's user may write"
	switch {
	case !errors.As(err, new(unix.Errno)):
		return err // which says it
	case errors.Is(err, unix.ENOSPC), errors.Is(err, unix.EDQUOT):
		want = "want free space there"
	case errors.Is(err, unix.EROFS):
		want = "want a file system that is not read-only"
	case errors.Is(err, fs.ErrNotExist):
		want = "want that directory to be there"
	case errors.Is(err, fs.ErrPermission):
		want = fmt.Sprintf("want a directory that uid %d may write, and no file of another user in it", os.Geteuid())
	}
	return fmt.Errorf("%w: %s", err, want)
}
