//go:build linux

package command

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// fileWriter is an io.Writer of a whole file, which it replaces in one step: whoever reads the file sees the old content or the new one.
type fileWriter struct{ path string }

// Write replaces the file. Everybody may read the new one, whatever the umask: node_exporter runs as another user.
func (w fileWriter) Write(content []byte) (int, error) {
	if err := w.replace(content); err != nil {
		return 0, fmt.Errorf("--output=%s: %w", w.path, err)
	}
	return len(content), nil
}

func (w fileWriter) replace(content []byte) error {
	// A rename would replace /dev/stdout, or a link, by a file.
	if info, err := os.Lstat(w.path); err == nil && !info.Mode().IsRegular() {
		return errors.New("not a regular file: want the path of a file to write or to replace")
	} else if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	// The name does not end in .prom, so that the textfile collector ignores the file.
	next, err := os.CreateTemp(filepath.Dir(w.path), "."+filepath.Base(w.path)+".*.new")
	if err != nil {
		return err
	}
	_, err = next.Write(content)
	// Until it is on the disk: the rename may outlive a power cut that the content does not.
	if err = errors.Join(err, next.Chmod(0o644), next.Sync(), next.Close()); err == nil {
		err = os.Rename(next.Name(), w.path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(next.Name()))
	}
	return nil
}
