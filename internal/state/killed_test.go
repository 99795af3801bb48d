//go:build linux

package state_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/go-kit/log"

	"github.com/listen-exporter/listen_exporter/internal/state"
)

// writerVariable is the path at which a process of TestAProcessThatIsKilledLeavesAWholeFile writes.
const writerVariable = "LISTEN_EXPORTER_STATE_WRITER"

// writeOn goes on from what is at the path and counts up, a write after the other, until it is killed.
func writeOn(path string) {
	last := &memory{map[string]int{}}
	f, loaded := state.Open(path, here, last, log.NewNopLogger())
	fmt.Println(loaded, last.Ports["writes"])
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	for n := last.Ports["writes"]; ; n++ {
		ports := map[string]int{"writes": n}
		for i := range 1000 { // so that a write takes some time
			ports[fmt.Sprint(n, "-", i)] = i
		}
		f.Keep(ctx, func() any { return &memory{ports} })
	}
}

func TestMain(m *testing.M) {
	if path := os.Getenv(writerVariable); path != "" {
		writeOn(path)
	}
	os.Exit(m.Run())
}

// TestAProcessThatIsKilledLeavesAWholeFile kills a hundred processes while they write. The next one has the lock at once.
func TestAProcessThatIsKilledLeavesAWholeFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state")
	before := 0 // the number in the file
	for n := range 100 {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), writerVariable+"="+path)
		output, err := cmd.StdoutPipe()
		if err == nil {
			err = cmd.Start()
		}
		if err != nil {
			t.Fatal(err)
		}
		var loaded bool
		var writes int
		_, err = fmt.Fscan(output, &loaded, &writes)
		if err != nil || loaded != (n > 0) || writes < before {
			t.Errorf("process %d: loaded %t with %d writes after %d: %v", n, loaded, writes, before, err)
		}
		time.Sleep(time.Duration(n%10) * time.Millisecond)
		for n == 0 && !exists(path) {
			time.Sleep(time.Millisecond)
		}
		for n == 99 && before == 0 { // on a slow machine all others were too slow to write
			if saved, err := read(path); err == nil {
				before = saved.Ports["writes"]
			}
		}
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		saved, err := read(path)
		if err != nil || saved.Ports["writes"] < writes || len(saved.Ports) != 1001 {
			t.Fatalf("after process %d: %v", n, err)
		}
		before = saved.Ports["writes"]
	}
	if before == 0 {
		t.Error("nothing was written")
	}
	for _, name := range list(t, path) {
		if !slices.Contains([]string{"state", "state.lock", "state.new"}, name) {
			t.Errorf("%s is left", name)
		}
	}
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}
