package command

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// fileWriter is an io.Writer of a whole file, which it replaces in one step: who reads the file sees the old content or the new one.
type fileWriter struct{ path string }

// Write writes the file. Everybody may read it, as far as the umask allows: node_exporter runs as another user.
func (w fileWriter) Write(content []byte) (int, error) {
	// A rename would replace /dev/stdout, or a link, by a file.
	if info, err := os.Lstat(w.path); err == nil && !info.Mode().IsRegular() {
		return 0, fmt.Errorf("--output=%s is not a regular file: want the path of a file to write or to replace", w.path)
	} else if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return 0, err
	}
	// Its name does not end in .prom, so that the textfile collector does not read it.
	next := filepath.Join(filepath.Dir(w.path), fmt.Sprintf(".%s.%d", filepath.Base(w.path), os.Getpid()))
	if err := writeNew(next, content); err != nil {
		return 0, errors.Join(err, removed(next))
	}
	if err := os.Rename(next, w.path); err != nil {
		return 0, errors.Join(err, removed(next))
	}
	return len(content), nil
}

// writeNew writes a file and waits until it is on the disk: the rename may outlive a power cut that the content does not.
func writeNew(path string, content []byte) error {
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o644)
	if err != nil {
		return err
	}
	_, err = bytes.NewReader(content).WriteTo(file)
	return errors.Join(err, file.Sync(), file.Close())
}

// removed removes a file that may not be there.
func removed(path string) error {
	if err := os.Remove(path); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}
