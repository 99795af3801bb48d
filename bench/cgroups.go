package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// slicePattern names the cgroup of a figure, which holds its services.
const slicePattern = "listen_exporter_bench*.slice"

// services are cgroups such as systemd makes for its services.
type services struct {
	dir   string
	names []string // of the units
	open  []int    // their directories
}

// makeServices makes n cgroups in a slice of their own. They live in the host's hierarchy: remove must be called. Those of a
// figure that was killed are removed by the next one.
func makeServices(n int) (made services, err error) {
	mount, err := cgroup2()
	if err != nil {
		return services{}, err
	}
	if err := removeLeftovers(mount); err != nil {
		return services{}, err
	}
	if made.dir, err = os.MkdirTemp(mount, slicePattern); err != nil {
		return services{}, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, made.remove())
		}
	}()
	for i := range n {
		made.names = append(made.names, fmt.Sprintf("bench-%d.service", i))
		path := filepath.Join(made.dir, made.names[i])
		if err := os.Mkdir(path, 0o755); err != nil {
			return made, err
		}
		fd, err := unix.Open(path, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		if err != nil {
			return made, fmt.Errorf("open %s: %w", path, err)
		}
		made.open = append(made.open, fd)
	}
	return made, nil
}

// remove removes the cgroups. Their processes must have ended.
func (s services) remove() error {
	for _, fd := range s.open {
		if err := unix.Close(fd); err != nil {
			return err
		}
	}
	return removeSlice(s.dir)
}

// cgroup2 returns where the cgroup2 hierarchy is mounted.
func cgroup2() (string, error) {
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return "", err
	}
	for line := range strings.Lines(string(mounts)) {
		mount, device, _ := strings.Cut(line, " - ")
		if fields := strings.Fields(mount); len(fields) > 4 && strings.HasPrefix(device, "cgroup2 ") {
			return fields[4], nil
		}
	}
	return "", errors.New("no cgroup2 hierarchy is mounted")
}

// removeLeftovers removes what figures left that were killed: cgroups in which nobody lives any more.
func removeLeftovers(mount string) error {
	slices, err := filepath.Glob(filepath.Join(mount, slicePattern))
	if err != nil {
		return err
	}
	for _, slice := range slices {
		events, err := os.ReadFile(filepath.Join(slice, "cgroup.events"))
		if err != nil {
			return err
		}
		if strings.Contains(string(events), "populated 0") {
			if err := removeSlice(slice); err != nil {
				return err
			}
		}
	}
	return nil
}

func removeSlice(slice string) error {
	entries, err := os.ReadDir(slice)
	if err != nil {
		return err
	}
	for _, entry := range entries {
		if entry.IsDir() {
			if err := removeCgroup(filepath.Join(slice, entry.Name())); err != nil {
				return err
			}
		}
	}
	return removeCgroup(slice)
}

// removeCgroup removes an empty cgroup. The kernel may need a moment to see that it is empty.
func removeCgroup(dir string) error {
	for deadline := time.Now().Add(5 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		err := unix.Rmdir(dir)
		if err == nil {
			return nil
		}
		if !errors.Is(err, unix.EBUSY) || time.Now().After(deadline) {
			return fmt.Errorf("remove %s: %w", dir, err)
		}
	}
}
