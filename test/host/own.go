//go:build linux

package host

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/procfs"
	"golang.org/x/sys/unix"
)

const (
	// roleVariable names the role of a process that runs the test binary. go test's own process has none.
	roleVariable = "LISTEN_EXPORTER_TEST_ROLE"
	// sliceVariable is the path of the host's slice in the cgroup2 hierarchy.
	sliceVariable = "LISTEN_EXPORTER_TEST_SLICE"
	// initRole is PID 1 of a host. Its first argument is the role that it starts.
	initRole = "init"
	// limit is for commands that take less than a second on an idle machine.
	limit = time.Minute
)

// Main is for TestMain: it runs the tests or, in a process of [Again], the role.
func Main(m *testing.M, roles map[string]func() error) {
	role := os.Getenv(roleVariable)
	if role == "" {
		os.Exit(m.Run())
	}
	run := roles[role]
	if role == initRole {
		run = beInit
	}
	if err := run(); err != nil {
		fmt.Fprintf(os.Stderr, "%s: %v\n", role, err)
		os.Exit(1)
	}
}

// Again returns a command that runs the test binary in a role. A process is named after the path by which it was started.
func Again(role, path string, arguments ...string) *exec.Cmd {
	cmd := exec.Command(path, arguments...)
	cmd.Env = append(os.Environ(), roleVariable+"="+role)
	return cmd
}

// Slice returns the path of the host's slice below /sys/fs/cgroup.
func Slice() string { return os.Getenv(sliceVariable) }

// Own runs a role on a host of its own, whose end comes with that of the role, and makes a subtest of each check that it
// reports. A host that has not ended within the limit is ended. environment is what the role gets besides.
//
// The host has namespaces of its own for processes, networks, mounts and IPC. With cgroups, /sys/fs/cgroup is the cgroup2
// hierarchy and nothing else, and all that runs is in a slice of that, see [Slice].
func Own(t *testing.T, role string, limit time.Duration, cgroups bool, environment ...string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	runtime.LockOSThread() // with Pdeathsig the host ends with the thread that started it
	defer runtime.UnlockOSThread()
	cmd := exec.CommandContext(ctx, os.Args[0], role)
	cmd.Env = append(os.Environ(), roleVariable+"="+initRole)
	cmd.Env = append(cmd.Env, environment...)
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:   syscall.CLONE_NEWPID | syscall.CLONE_NEWIPC | syscall.CLONE_NEWUTS,
		Unshareflags: syscall.CLONE_NEWNET | syscall.CLONE_NEWNS,
		Pdeathsig:    syscall.SIGKILL,
	}
	if cgroups {
		scope, err := os.Open(newSlice(t, cmd))
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = scope.Close() }()
		cmd.SysProcAttr.UseCgroupFD, cmd.SysProcAttr.CgroupFD = true, int(scope.Fd())
	}
	report, output, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stdout, cmd.Stderr = output, output
	err = cmd.Start()
	_ = output.Close()
	if err != nil {
		t.Fatalf("start a host: %v", err)
	}
	Replay(t, report)
	if err := cmd.Wait(); err != nil {
		t.Errorf("the host ended with %v", errors.Join(err, ctx.Err()))
	}
}

// newSlice makes a slice for a host, which the test's end removes, and returns the directory of the first cgroup in it.
func newSlice(t *testing.T, cmd *exec.Cmd) (scope string) {
	t.Helper()
	root := CgroupRoot(t)
	control := filepath.Join(root, "cgroup.subtree_control")
	before, err := os.ReadFile(control)
	if err != nil {
		t.Fatal(err)
	}
	slice, err := os.MkdirTemp(root, "listen_exporter_*.slice")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := Await(limit, func() error { return removeCgroups(slice) }); err != nil {
			t.Error(err)
		}
		// A container runtime enables controllers from the root of the hierarchy on.
		now, _ := os.ReadFile(control)
		for name := range strings.FieldsSeq(string(now)) {
			if !slices.Contains(strings.Fields(string(before)), name) {
				_ = os.WriteFile(control, []byte("-"+name), 0)
			}
		}
	})
	scope = filepath.Join(slice, "init.scope")
	if err := errors.Join(os.Chmod(slice, 0o755), os.Mkdir(scope, 0o755)); err != nil {
		t.Fatal(err)
	}
	cmd.Env = append(cmd.Env, sliceVariable+"=/"+filepath.Base(slice))
	return scope
}

// CgroupRoot returns where the whole cgroup2 hierarchy is mounted. The test is skipped if that is nowhere, or unless it runs as root.
func CgroupRoot(tb testing.TB) string {
	tb.Helper()
	NeedRoot(tb)
	mounts, err := procfs.GetMounts()
	if err != nil {
		tb.Fatal(err)
	}
	for _, m := range mounts {
		var stat unix.Stat_t
		// The inode is 1 only at the root of the hierarchy. In a cgroup namespace another cgroup looks like the root.
		if m.FSType == "cgroup2" && unix.Stat(m.MountPoint, &stat) == nil && stat.Ino == 1 {
			return m.MountPoint
		}
	}
	tb.Skip("needs the whole cgroup2 hierarchy, not that of a cgroup namespace")
	return ""
}

// removeCgroups removes a cgroup and all below it. It fails while a process that was killed is still on its way out.
func removeCgroups(dir string) error {
	var dirs []string
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err == nil && entry.IsDir() {
			dirs = append(dirs, path)
		}
		return err
	})
	for _, path := range slices.Backward(dirs) {
		err = errors.Join(err, os.Remove(path))
	}
	return err
}

// beInit is PID 1 of a host: it makes the host, starts a role, and reaps orphans until the role ends.
func beInit() error {
	if os.Getpid() != 1 { // what follows unmounts
		return errors.New("it is not PID 1")
	}
	if err := makeHost(); err != nil {
		return err
	}
	cmd := Again(os.Args[1], os.Args[0])
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	if err := cmd.Start(); err != nil {
		return err
	}
	for {
		var status unix.WaitStatus
		pid, err := unix.Wait4(-1, &status, 0, nil)
		if pid == cmd.Process.Pid || err != nil && !errors.Is(err, unix.EINTR) {
			if status != 0 {
				err = fmt.Errorf("the role %s ended with status %d, signal %v", os.Args[1], status.ExitStatus(), status.Signal())
			}
			return err
		}
	}
}

func makeHost() error {
	mount := func(kind, at, options string, flags uintptr) error {
		if err := unix.Mount(kind, at, kind, flags, options); err != nil {
			return fmt.Errorf("mount %s: %w", at, err)
		}
		return nil
	}
	err := errors.Join(
		mount("proc", "/proc", "", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC),
		mount("tmpfs", "/run", "mode=755", 0),
		mount("tmpfs", "/dev/shm", "", 0),
	)
	if Slice() != "" {
		err = errors.Join(err, unix.Unmount("/sys/fs/cgroup", unix.MNT_DETACH), mount("cgroup2", "/sys/fs/cgroup", "", 0))
	}
	if err == nil {
		_, err = Output(limit, "ip", "link", "set", "lo", "up")
	}
	return err
}
