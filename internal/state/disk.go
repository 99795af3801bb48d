//go:build linux

package state

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// Next to a state file are its lock, the file that takes its place next, and the last one that was not of use here. A lock on
// the file itself would be lost with each write.
const (
	lockSuffix = ".lock"
	nextSuffix = ".new"
	keptSuffix = ".old"
)

var errBusy = errors.New("another exporter has it open: want one exporter on a host, or another --state.file for each")

// disk is where a state file is. All of it may take as long as the file system takes.
type disk struct {
	path, machine string

	lock *os.File // nil until there is one
	busy bool     // another exporter had the lock
	// known reports whether the content of the file is in the memory of this exporter.
	known bool
}

// load reads the file and locks it. A file that cannot be written can still be of use: then the error is that of the lock, and saved
// is there.
func (d *disk) load() (saved *saved, err error) {
	saved, unread := read(d.path, d.machine)
	if !isOurs(unread) {
		return nil, unread
	}
	switch err := d.takeLock(); {
	case errors.Is(err, errBusy):
		return nil, err
	case err != nil:
		return saved, err
	}
	if errors.Is(unread, fs.ErrNotExist) {
		return nil, errMissing
	}
	return saved, unread
}

// isOurs reports whether what [read] has found, by its error, may be replaced: a state file, or nothing.
func isOurs(err error) bool {
	return err == nil || errors.Is(err, fs.ErrNotExist) || errors.As(err, new(unfit))
}

// takeLock takes the lock, unless that was done. The kernel frees it when the process ends, however it does.
func (d *disk) takeLock() error {
	if d.busy {
		return errBusy // the other one has remembered more, whoever comes next
	}
	if d.lock != nil {
		return nil
	}
	path := d.path + lockSuffix
	if err := checkRegular(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	// A file that is open for writing would keep its file system from being remounted read-only.
	f, err := openLocked(path, os.O_RDONLY)
	if errors.Is(err, unix.EBADF) {
		f, err = openLocked(path, os.O_RDWR) // which NFS wants
	}
	if err != nil {
		d.busy = errors.Is(err, errBusy)
		return err
	}
	d.lock = f
	return nil
}

func openLocked(path string, mode int) (*os.File, error) {
	f, err := os.OpenFile(path, mode|os.O_CREATE|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, err
	}
	err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	switch {
	case err == nil:
		return f, nil
	case errors.Is(err, unix.EWOULDBLOCK):
		err = errBusy
	default:
		err = &fs.PathError{Op: "lock", Path: path, Err: err}
	}
	_ = f.Close()
	return nil, err
}

// put replaces the file. Whenever the machine stops, there is the old one or the new one.
func (d *disk) put(data []byte) error {
	var unread error
	if !d.known {
		if _, unread = read(d.path, d.machine); !isOurs(unread) {
			return unread // perhaps the path was mistyped, and this is somebody's
		}
	}
	if err := d.takeLock(); err != nil {
		return err
	}
	// What a newer version has written is of use again when the newer version is there again.
	if !d.known && !errors.Is(unread, fs.ErrNotExist) && !errors.Is(unread, errEmpty) {
		if err := os.Rename(d.path, d.path+keptSuffix); err != nil {
			return err
		}
	}
	d.known = true
	next := d.path + nextSuffix
	if err := os.Remove(next); err != nil && !errors.Is(err, fs.ErrNotExist) { // of an exporter that was killed
		return err
	}
	err := writeSynced(next, data)
	if err == nil {
		err = os.Rename(next, d.path)
	}
	if err != nil {
		_ = os.Remove(next) // on a full disk the space matters
		return err
	}
	return syncDir(filepath.Dir(d.path))
}

// Read reads what was last saved in a file on a machine into content, which is a pointer. It returns when it was written.
func Read(path, machine string, content any) (written time.Time, err error) {
	saved, err := read(path, machine)
	if err != nil {
		return time.Time{}, err
	}
	if saved.decode(content) != nil {
		return time.Time{}, errDamaged
	}
	return saved.written, nil
}

// read returns what was last saved in a file on a machine.
func read(path, machine string) (*saved, error) {
	if err := checkRegular(path); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NOFOLLOW, 0)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	limit := int64(maxSize)
	if info.Size() > limit {
		limit = maxLine // which says what it is; its checksum does not fit
	}
	data, err := io.ReadAll(io.LimitReader(f, limit))
	if err != nil {
		return nil, err
	}
	saved, err := parse(data, machine)
	switch {
	case errors.Is(err, errForeign):
		return nil, fmt.Errorf("%s is %w: want another --state.file, or none there", path, err)
	case err != nil:
		return nil, err
	}
	return saved, nil
}

// checkRegular returns an error unless a regular file is at the path. To open a FIFO would wait for its writer, and a link may
// lead anywhere.
func checkRegular(path string) error {
	info, err := os.Lstat(path)
	if err != nil || info.Mode().IsRegular() {
		return err
	}
	is := "not a regular file"
	switch info.Mode().Type() {
	case fs.ModeDir:
		is = "a directory"
	case fs.ModeSymlink:
		is = "a symbolic link"
	}
	return fmt.Errorf("%s is %s: want the path of a regular file, or of none", path, is)
}

func writeSynced(path string, data []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}

// syncDir makes a rename last.
func syncDir(path string) error {
	dir, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}
