//go:build linux

package host

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// debian is the suite of the systems of [Debian].
const debian = "bookworm"

// Debian returns an archive of a minimal Debian with these packages. It comes from the mirror of the machine's own apt, which takes
// a minute, and is kept in .tools/NAME; remove the file to fetch it again.
func Debian(tb testing.TB, name string, packages ...string) string {
	tb.Helper()
	NeedRoot(tb)
	file := filepath.Join(Root, ".tools", name, debian+".tar")
	if _, err := os.Stat(file); err == nil {
		return file
	}
	NeedTools(tb, "debootstrap", "tar")
	mirror, err := Output(limit, filepath.Join(Root, ".ci/debian-mirror"))
	if err != nil {
		tb.Fatal(err)
	}
	tree := OpenDir(tb)
	// debootstrap leaves it there when it is killed.
	tb.Cleanup(func() { _ = unix.Unmount(filepath.Join(tree, "proc"), unix.MNT_DETACH) })
	if _, err := Output(15*time.Minute, "debootstrap", "--variant=minbase", "--include="+strings.Join(packages, ","),
		"--keyring=/usr/share/keyrings/debian-archive-keyring.gpg", debian, tree, strings.TrimSpace(mirror)); err != nil {
		tb.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		tb.Fatal(err)
	}
	if _, err := Output(limit, "tar", "-C", tree, "--exclude=./var/cache/apt/*", "--exclude=./var/lib/apt/lists/*",
		"--exclude=./var/log/*", "-cf", file+".part", "."); err != nil {
		tb.Fatal(err)
	}
	if err := os.Rename(file+".part", file); err != nil { // whole or not at all
		tb.Fatal(err)
	}
	return file
}
