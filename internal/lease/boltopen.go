//go:build linux

package lease

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"os"
	"path/filepath"
	"runtime/debug"
	"strconv"
	"time"

	"go.etcd.io/bbolt"
	bbolterrors "go.etcd.io/bbolt/errors"
	"golang.org/x/sys/unix"

	"github.com/listen-exporter/listen_exporter/internal/guard"
)

// The file has two buckets. meta has the version of the form, and leases the record of each lease by its ID. bbolt checks only its meta
// pages. So since version 2 a record comes after its checksum, and meta has the number of leases.
const (
	// formVersion grows with each change of the form or of a record, which is parsed strictly.
	formVersion = 2
	// withoutSums is the version before checksums and the number.
	withoutSums = 1
)

var (
	metaBucket   = []byte("meta")
	leasesBucket = []byte("leases")
	versionKey   = []byte("version")
	countKey     = []byte("count")
)

// Next to the file are its lock, and the file that takes its place next.
const (
	lockSuffix = ".lock"
	nextSuffix = ".new"
)

var errBusy = errors.New("it is locked")

// lockPatience is how long the start waits for another exporter to end.
const lockPatience = time.Second

// maxVersion is how many digits of a version are read.
const maxVersion = 9

// newer is the error of a version that is not known.
type newer int

func (n newer) Error() string { return fmt.Sprintf("version %d", int(n)) }

// damaged is the error of a file that has no leases, or wrong ones.
type damaged struct{ error }

func (d damaged) Unwrap() error { return d.error }

// OpenFile opens the store of the leases of a host in a file, and makes it if it is not there. Only one process can have it open.
func OpenFile(path, host string, clock Clock) (Store, error) {
	f := &file{path: filepath.Clean(path), clock: clock}
	if err := guarded(func() error { return f.open(host) }); err != nil {
		if f.lock != nil {
			_ = f.lock.Close()
		}
		return nil, fmt.Errorf("open the store of leases: %w", f.explain(err))
	}
	f.start()
	return f, nil
}

// guarded calls do, and makes an error of its panic. bbolt panics on pages that it did not write so. It has the file mapped, so what is
// not there, or cannot be read, is a fault.
func guarded(do func() error) error {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	err := guard.Do(do)
	if errors.As(err, new(*guard.Panic)) {
		return damaged{err}
	}
	return err
}

// explain returns an error of the file with what to do.
func (f *file) explain(err error) error {
	var version newer
	switch {
	case errors.Is(err, errBusy), errors.Is(err, bbolterrors.ErrTimeout):
		return fmt.Errorf("another exporter has %s open: want one exporter on a host, or another --lease.file for each", f.path)
	case errors.As(err, &version):
		return fmt.Errorf("%s has version %d, which a newer listen_exporter has written: want that one, or another --lease.file", f.path, int(version))
	case errors.As(err, new(damaged)):
		return fmt.Errorf("%s is damaged, or is not a store of leases (%w): want another --lease.file, or this file moved away, which ends all leases in it", f.path, err)
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("%w: want a directory that uid %d may write, and no file of another user in it", err, os.Geteuid())
	case errors.Is(err, unix.EROFS):
		return fmt.Errorf("%w: want a file system that is not read-only", err)
	case errors.Is(err, unix.ENOSPC), errors.Is(err, unix.EDQUOT):
		return fmt.Errorf("%w: want free space there", err)
	}
	return err
}

// open reads the leases and writes them to a new file, which takes the place of the one that was there. So what is written to is whole, as
// bbolt trusts its pages, and has the form of this version. Whenever the machine stops, there is the old file or the new one.
func (f *file) open(host string) (err error) {
	dir := filepath.Dir(f.path)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	if f.lock, err = takeLock(f.path + lockSuffix); err != nil {
		return err
	}
	if err := f.load(); err != nil {
		return err
	}
	for i := range f.leases {
		f.leases[i].Host = host // whatever its name was
	}
	return f.replace(f.leases)
}

// replace writes leases to a new file, which takes the place of the one that was there.
func (f *file) replace(leases []Lease) error {
	next := f.path + nextSuffix
	if err := os.Remove(next); err != nil && !errors.Is(err, fs.ErrNotExist) { // of an exporter that was killed
		return err
	}
	db, err := openDB(next, false)
	if err != nil {
		return err
	}
	err = db.Update(func(tx *bbolt.Tx) error { return rewrite(tx, leases, f.clock) })
	var info fs.FileInfo
	if err == nil {
		info, err = os.Lstat(next)
	}
	if err == nil {
		err = os.Rename(next, f.path)
	}
	if err != nil {
		return errors.Join(err, db.Close(), os.Remove(next)) // on a full disk the space matters
	}
	if f.db != nil {
		_ = f.db.Close() // its leases are in the new one
	}
	f.db, f.info = db, info
	return syncDir(filepath.Dir(f.path))
}

// isThere reports whether the file has not been deleted, moved or replaced. What is written to another would be lost at the next start.
func (f *file) isThere() bool {
	info, err := os.Lstat(f.path)
	return err == nil && os.SameFile(info, f.info)
}

// takeLock locks a file, until it is closed. A lock on the store itself would be lost when another file takes its place.
func takeLock(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0o600)
	if err != nil {
		return nil, err
	}
	for began := time.Now(); ; time.Sleep(lockPatience / 20) {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		switch {
		case err == nil:
			return f, nil
		case !errors.Is(err, unix.EWOULDBLOCK):
			return nil, errors.Join(&fs.PathError{Op: "lock", Path: path, Err: err}, f.Close())
		case time.Since(began) > lockPatience:
			return nil, errors.Join(errBusy, f.Close())
		}
	}
}

// load reads the leases of the file that is there.
func (f *file) load() error {
	info, err := os.Lstat(f.path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return err
	case !info.Mode().IsRegular(): // to open a FIFO would wait for its writer, and a link may lead anywhere
		return fmt.Errorf("%s is not a regular file: want the path of one, or of none, as --lease.file", f.path)
	case info.Size() == 0: // which bbolt would make its own
		return damaged{errors.New("it is empty")}
	}
	db, err := openDB(f.path, true)
	if err != nil {
		return err
	}
	err = guarded(func() error {
		return db.View(func(tx *bbolt.Tx) error {
			if info.Size() < tx.Size() {
				return damaged{fmt.Errorf("it has %d bytes of %d", info.Size(), tx.Size())}
			}
			f.leases, err = read(tx, f.clock)
			return err
		})
	})
	return errors.Join(err, guarded(db.Close))
}

// openDB opens a file as bbolt's.
func openDB(path string, readOnly bool) (db *bbolt.DB, err error) {
	var file *os.File
	err = guarded(func() error {
		db, err = bbolt.Open(path, 0o600, &bbolt.Options{
			Timeout: lockPatience, FreelistType: bbolt.FreelistMapType, NoStatistics: true, ReadOnly: readOnly,
			OpenFile: func(path string, flag int, mode os.FileMode) (*os.File, error) {
				file, err = os.OpenFile(path, flag|unix.O_NOFOLLOW, mode)
				return file, err
			},
		})
		return err
	})
	if err == nil {
		return db, nil
	}
	if file != nil {
		_ = file.Close() // bbolt does, unless it panicked
	}
	if !errors.As(err, new(unix.Errno)) && !errors.Is(err, bbolterrors.ErrTimeout) {
		err = damaged{err} // its pages are not such as bbolt writes
	}
	return nil, err
}

// syncDir makes a rename last.
func syncDir(path string) error {
	dir, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

// read returns the leases in a store of any version up to this one.
func read(tx *bbolt.Tx, clock Clock) (leases []Lease, err error) {
	version, err := readVersion(tx)
	if err != nil {
		return nil, err
	}
	var has portSet
	err = tx.Bucket(leasesBucket).ForEach(func(id, value []byte) error {
		r, err := decodeStored(value, version)
		if err == nil && r.ID != string(id) {
			err = errors.New("it has another ID")
		}
		if err != nil {
			return damaged{fmt.Errorf("lease %.40q: %w", id, err)}
		}
		for _, port := range r.Ports {
			if has.has(port) {
				return damaged{fmt.Errorf("port %d is leased twice", port)}
			}
			has.add(port)
		}
		leases = append(leases, r.lease(clock))
		return nil
	})
	if err != nil {
		return nil, err
	}
	if count := tx.Bucket(metaBucket).Get(countKey); version > withoutSums && string(count) != strconv.Itoa(len(leases)) {
		return nil, damaged{fmt.Errorf("it has %d leases of %.9q", len(leases), count)}
	}
	sortLeases(leases)
	return leases, nil
}

// readVersion returns the version of the form of a store.
func readVersion(tx *bbolt.Tx) (version int, err error) {
	err = tx.ForEach(func(name []byte, _ *bbolt.Bucket) error {
		if !bytes.Equal(name, metaBucket) && !bytes.Equal(name, leasesBucket) {
			return damaged{fmt.Errorf("it has a bucket %.40q", name)}
		}
		return nil
	})
	meta := tx.Bucket(metaBucket)
	if err != nil || meta == nil || tx.Bucket(leasesBucket) == nil {
		return 0, cmp.Or[error](err, damaged{errors.New("it has no leases")})
	}
	text := meta.Get(versionKey)
	version, err = strconv.Atoi(string(text[:min(len(text), maxVersion)]))
	switch {
	case err != nil || version < 1:
		return 0, damaged{errors.New("it has no version")}
	case version > formVersion:
		return 0, newer(version)
	}
	return version, nil
}

// rewrite makes the leases all that a store has.
func rewrite(tx *bbolt.Tx, leases []Lease, clock Clock) error {
	meta, err := tx.CreateBucketIfNotExists(metaBucket)
	if err != nil {
		return err
	}
	if err := meta.Put(versionKey, []byte(strconv.Itoa(formVersion))); err != nil {
		return err
	}
	if err := tx.DeleteBucket(leasesBucket); err != nil && !errors.Is(err, bbolterrors.ErrBucketNotFound) {
		return err
	}
	bucket, err := tx.CreateBucket(leasesBucket)
	if err != nil {
		return err
	}
	for i := range leases {
		if err := put(bucket, &leases[i], clock); err != nil {
			return err
		}
	}
	return putCount(tx, len(leases))
}

func putCount(tx *bbolt.Tx, leases int) error {
	return tx.Bucket(metaBucket).Put(countKey, []byte(strconv.Itoa(leases)))
}

func put(bucket *bbolt.Bucket, l *Lease, clock Clock) error {
	r := recordOf(*l, clock)
	data, err := r.encode()
	if err != nil {
		return err
	}
	return bucket.Put([]byte(l.ID), append(checksum(data), data...))
}

// checksum returns the CRC-32C of a record as it is before it.
func checksum(data []byte) []byte {
	return fmt.Appendf(nil, "%08x ", crc32.Checksum(data, crc32.MakeTable(crc32.Castagnoli)))
}

// decodeStored parses what a store of a version has of a lease.
func decodeStored(value []byte, version int) (*record, error) {
	if version > withoutSums {
		data := value[min(len(checksum(nil)), len(value)):]
		if !bytes.HasPrefix(value, checksum(data)) {
			return nil, errors.New("its checksum is wrong")
		}
		value = data
	}
	return decodeRecord(value, true)
}
