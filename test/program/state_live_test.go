//go:build linux

package program_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/listen-exporter/listen_exporter/test/netnstest"
	"github.com/listen-exporter/listen_exporter/test/program"
)

// A copy of a machine has another machine-id. What the original remembers is not about it.
func TestACopyOfAMachineBeginsWithAnEmptyMemory(t *testing.T) {
	netnstest.Run(t, func(t *testing.T) {
		file := filepath.Join(t.TempDir(), "state")
		for n, test := range []struct{ id, loaded string }{{"1", "0"}, {"1", "1"}, {"2", "0"}, {"2", "1"}} {
			id := program.WriteFile(t, fmt.Sprint("machine-id-", n), strings.Repeat(test.id, 32)+"\n")
			if err := unix.Mount(id, "/etc/machine-id", "", unix.MS_BIND, ""); err != nil {
				t.Skipf("needs an /etc/machine-id to mount over: %v", err)
			}
			t.Cleanup(func() { _ = unix.Unmount("/etc/machine-id", unix.MNT_DETACH) })
			e := program.StartLive(t, "--state.file="+file)
			e.AwaitReady()
			if loaded := program.Samples(t, e.Scrape())[loadedGauge]; loaded != test.loaded {
				t.Errorf("start %d on machine %s: loaded %s, want %s", n, test.id, loaded, test.loaded)
			}
			e.Stop()
		}
		if _, err := os.Stat(file + ".old"); err != nil {
			t.Errorf("what the original remembers is lost: %v", err)
		}
	})
}

// As in the shipped unit and DaemonSet: nobody, without a capability, in a directory of its own.
func TestNobodyRemembersInADirectoryOfItsOwn(t *testing.T) {
	netnstest.Run(t, func(t *testing.T) {
		dir, err := os.MkdirTemp("", "listen_exporter-state-")
		must(t, err)
		t.Cleanup(func() { _ = os.RemoveAll(dir) })
		file := filepath.Join(dir, "state")
		e := program.StartNobody(t, "--state.file="+file)
		e.AwaitReady()
		e.Await("the gauge 0", func() bool { return program.Samples(t, e.Scrape())[savedGauge] == "0" })
		if lines := e.Logged("state file", "want a directory that uid 65534 may write"); len(lines) != 1 {
			t.Errorf("%d lines about a directory of root's:\n%s", len(lines), e.Stderr.String())
		}
		must(t, os.Chown(dir, 65534, 65534))
		e.Await("the gauge 1", func() bool { return program.Samples(t, e.Scrape())[savedGauge] == "1" })
		e.Stop()
		e = program.StartNobody(t, "--state.file="+file)
		e.AwaitReady()
		if loaded := program.Samples(t, e.Scrape())[loadedGauge]; loaded != "1" {
			t.Errorf("loaded %s after a restart", loaded)
		}
	})
}

// The file is never written inside a scrape.
func TestAStateFileOnAFileSystemThatHangsDelaysNoScrapeAndNoEnd(t *testing.T) {
	netnstest.Run(t, func(t *testing.T) {
		dir := t.TempDir()
		e := program.StartLive(t, "--state.file="+filepath.Join(dir, "state"), "--collector.netns=self")
		e.AwaitReady()
		e.Await("the first write", func() bool { _, err := os.Stat(filepath.Join(dir, "state")); return err == nil })
		fuse, err := unix.Open("/dev/fuse", unix.O_RDWR|unix.O_CLOEXEC, 0)
		if err != nil {
			t.Skipf("needs /dev/fuse: %v", err)
		}
		if err := unix.Mount("hung", dir, "fuse", 0, fmt.Sprintf("fd=%d,rootmode=40000,user_id=0,group_id=0", fuse)); err != nil {
			t.Skipf("needs to mount a file system: %v", err)
		}
		t.Cleanup(func() {
			_ = unix.Close(fuse)
			_ = unix.Unmount(dir, unix.MNT_DETACH)
		})
		program.Listen(t, "tcp", "127.0.0.1:4000") // which is to be written
		e.Await("the gauge 0", func() bool {
			start := time.Now()
			page := e.Scrape()
			if took := time.Since(start); took > 5*time.Second {
				t.Errorf("a scrape took %s", took)
			}
			return program.Samples(t, page)[savedGauge] == "0"
		})
		if lines := e.Logged("state file", "does not answer"); len(lines) != 1 {
			t.Errorf("%d lines:\n%s", len(lines), e.Stderr.String())
		}
		e.Stop()
	})
}
