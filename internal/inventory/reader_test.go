//go:build linux

package inventory_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"testing"

	"github.com/go-kit/log"

	"github.com/listen-exporter/listen_exporter/internal/inventory"
	"github.com/listen-exporter/listen_exporter/test/host"
	"github.com/listen-exporter/listen_exporter/test/netnstest"
)

// readerRole is the role of a [reader].
const readerRole = "reader"

func TestMain(m *testing.M) { host.Main(m, map[string]func() error{readerRole: beReader}) }

// reader is another process, in the test's namespaces, that makes snapshots with the rights that somebody has.
type reader struct {
	pid     int
	asks    io.Writer
	answers *json.Decoder
}

// task is what a reader is started for.
type task struct {
	Options inventory.Options
	// Own is the address of a TCP listener that the reader has open, or empty.
	Own string
}

// answer is a snapshot of a reader. Errors are what the errors of its Reads say, by collector: JSON does not carry an error.
type answer struct {
	inventory.Snapshot
	Errors map[string]string
}

// startReader starts a reader, which ends with the test.
func startReader(t *testing.T, rights netnstest.Rights, todo task) *reader {
	t.Helper()
	encoded, err := json.Marshal(todo)
	if err != nil {
		t.Fatal(err)
	}
	binary, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	same := host.Again(readerRole, binary, string(encoded))
	cmd := rights.Command(t, same.Path, same.Args[1:]...)
	cmd.Env = append(slices.Clone(same.Env), "GORACE=atexit_sleep_ms=0") // there are dozens of readers, and each would sleep for a second
	said := new(bytes.Buffer)
	cmd.Stderr = said
	input, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	output, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = input.Close()
		if err := cmd.Wait(); err != nil {
			t.Errorf("the reader: %v\n%s", err, said)
		}
	})
	return &reader{pid: cmd.Process.Pid, asks: input, answers: json.NewDecoder(output)}
}

// snapshot returns the reader's next snapshot, as far as it is exported.
func (r *reader) snapshot(t *testing.T) *inventory.Snapshot {
	t.Helper()
	var a answer
	_, err := fmt.Fprintln(r.asks)
	if err == nil {
		err = r.answers.Decode(&a)
	}
	if err != nil {
		t.Fatalf("the reader makes no snapshot: %v", err)
	}
	for n := range a.Reads {
		if text, failed := a.Errors[a.Reads[n].Collector]; failed {
			a.Reads[n].Err = errors.New(text)
		}
	}
	return &a.Snapshot
}

// descriptors returns how many descriptors the reader has open.
func (r *reader) descriptors(t *testing.T) int {
	t.Helper()
	open, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", r.pid))
	if err != nil {
		t.Fatal(err)
	}
	return len(open)
}

// beReader is the reader's process. It answers each line of stdin.
func beReader() error {
	var todo task
	if err := json.Unmarshal([]byte(os.Args[1]), &todo); err != nil {
		return err
	}
	if todo.Own != "" {
		if _, err := netnstest.Listen("tcp", todo.Own); err != nil {
			return err
		}
	}
	i, err := inventory.Open(todo.Options, log.NewNopLogger())
	if err != nil {
		return err
	}
	answers := json.NewEncoder(os.Stdout)
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		a := answer{Snapshot: *i.Snapshot(context.Background()), Errors: make(map[string]string)}
		a.Reads = slices.Clone(a.Reads) // a snapshot never changes
		for n := range a.Reads {
			if r := &a.Reads[n]; r.Err != nil {
				a.Errors[r.Collector], r.Err = r.Err.Error(), nil
			}
		}
		if err := answers.Encode(a); err != nil {
			return err
		}
	}
	return lines.Err()
}
