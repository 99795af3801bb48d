//go:build linux

package socket

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

// arrival is what one call of recvfrom(2) gives.
type arrival struct {
	datagram []byte // of messages that belong to asked: they are made to belong to what was really asked
	missing  int    // how many bytes of it did not fit
	sender   uint32
	err      error
}

// script is a kernel that says what a test wants. To an IPv4 dump it says the next of the answers, and when none is left
// always; to an IPv6 dump that nothing listens.
type script struct {
	t       *testing.T
	answers [][]arrival
	always  []arrival

	asked   int // how many IPv4 dumps
	dialled int
	now     exchange // what was asked for last
	queue   []arrival
}

// source returns a source that the script answers.
func (s *script) source() *Netlink {
	n := newNetlink("", func(do func() error) error {
		s.dialled++
		s.queue = nil // what was on its way was closed with the last socket
		return do()
	}, make([]byte, receiveBuffer), TCP)
	n.send, n.receive = s.send, s.receive
	s.t.Cleanup(n.close)
	return n
}

func (s *script) send(_ int, message []byte) (int, error) {
	s.now = exchange{
		sequence: binary.NativeEndian.Uint32(message[8:]), port: binary.NativeEndian.Uint32(message[12:]), family: message[headerLength],
	}
	switch {
	case s.now.family == unix.AF_INET6:
		s.queue = append(s.queue, arrival{datagram: dumpDone})
		return len(message), nil
	case len(s.answers) > 0:
		s.queue = append(s.queue, s.answers[0]...)
		s.answers = s.answers[1:]
	default:
		s.queue = append(s.queue, s.always...)
	}
	s.asked++
	return len(message), nil
}

func (s *script) receive(_ int, buffer []byte) (length int, sender uint32, err error) {
	if len(s.queue) == 0 {
		s.t.Error("a read waits for more than the kernel says")
		return 0, 0, unix.EBADF
	}
	next := s.queue[0]
	s.queue = s.queue[1:]
	datagram := slices.Clone(next.datagram)
	for rest := datagram; len(rest) > 0; rest = rest[align(int(binary.NativeEndian.Uint32(rest))):] {
		binary.NativeEndian.PutUint32(rest[8:], s.now.sequence)
		binary.NativeEndian.PutUint32(rest[12:], s.now.port)
	}
	return copy(buffer, datagram) + next.missing, next.sender, next.err
}

// rows makes the messages of sockets on ports.
func rows(ports ...uint16) []byte {
	var all []byte
	for _, port := range ports {
		all = append(all, rowOf(port, 0)...)
	}
	return all
}

func portsOf(sockets []Socket) []uint16 {
	var all []uint16
	for _, s := range sockets {
		all = append(all, s.Addr.Port())
	}
	return all
}

func TestAReadThatFailsOrIsInterruptedNeverGivesAPart(t *testing.T) {
	says := func(datagrams ...[]byte) []arrival {
		var arrivals []arrival
		for _, datagram := range datagrams {
			arrivals = append(arrivals, arrival{datagram: datagram})
		}
		return arrivals
	}
	broken := func(arrivals []arrival, err error) []arrival { return append(arrivals, arrival{err: err}) }
	whole := says(rows(1, 2), join(rows(3), dumpDone))
	interrupted := says(rows(1, 99), join(rows(98), message(unix.NLMSG_DONE, unix.NLM_F_DUMP_INTR, code(0))))
	begun := says(rows(1, 2, 97))
	foreign := arrival{datagram: dumpDone, sender: 4711}
	cut := arrival{datagram: rows(1, 2), missing: receiveBuffer}
	for _, test := range []struct {
		name    string
		answers [][]arrival
		asked   int      // how many IPv4 dumps it takes
		dialled int      // how many sockets
		want    []uint16 // the ports
		wantErr string
		wantIs  error
	}{
		{name: "whole", answers: [][]arrival{whole}, asked: 1, want: []uint16{1, 2, 3}},
		{
			name:    "interrupted_three_times",
			answers: [][]arrival{interrupted, interrupted, interrupted, whole}, asked: 4, dialled: 3, want: []uint16{1, 2, 3},
		},
		{
			name:    "always_interrupted",
			answers: [][]arrival{interrupted, interrupted, interrupted, interrupted}, asked: dumpAttempts, dialled: 3,
			wantIs: errInterrupted, wantErr: "4 times: ",
		},
		{name: "no_buffer_space", answers: [][]arrival{broken(begun, unix.ENOBUFS), whole}, asked: 2, dialled: 1, want: []uint16{1, 2, 3}},
		{name: "a_datagram_that_does_not_fit", answers: [][]arrival{append(begun, cut)}, asked: 1, wantErr: "does not fit into 65536"},
		{
			name:    "the_end_from_another_process_amid_the_dump",
			answers: [][]arrival{slices.Concat(whole[:1], []arrival{foreign}, whole[1:])}, asked: 1, want: []uint16{1, 2, 3},
		},
		{
			name:    "rows_from_another_process",
			answers: [][]arrival{append([]arrival{{datagram: rows(96), sender: 4711}, {sender: 4711, missing: 1 << 20}}, whole...)}, asked: 1, want: []uint16{1, 2, 3},
		},
		{name: "no_answer_amid_the_dump", answers: [][]arrival{broken(begun, unix.EAGAIN)}, asked: 1, wantErr: "no answer within 5s"},
		{name: "a_signal_amid_the_dump", answers: [][]arrival{slices.Concat(whole[:1], []arrival{{err: unix.EINTR}}, whole[1:])}, asked: 1, want: []uint16{1, 2, 3}},
		{name: "an_error_amid_the_dump", answers: [][]arrival{broken(begun, unix.ECONNREFUSED)}, asked: 1, wantIs: unix.ECONNREFUSED, wantErr: "receive: "},
		{
			name:    "an_error_inside_the_end",
			answers: [][]arrival{append(begun, arrival{datagram: message(unix.NLMSG_DONE, 0, code(-int32(unix.ENOMEM)))})}, asked: 1, wantIs: unix.ENOMEM,
		},
		{name: "a_bad_row_amid_the_dump", answers: [][]arrival{append(begun, says(message(unix.SOCK_DIAG_BY_FAMILY, 0, nil))...)}, asked: 1, wantErr: "reply of 0 bytes"},
	} {
		// Of the first read of a source, and of one that remembers what the last one said.
		for _, before := range []struct {
			name    string
			answers []arrival
		}{{"at_first", nil}, {"later", whole}, {"after_another", says(join(rows(1, 2, 97, 98), dumpDone))}} {
			t.Run(test.name+"_"+before.name, func(t *testing.T) {
				s := &script{t: t}
				n := s.source()
				if before.answers != nil {
					s.answers = [][]arrival{before.answers}
					if _, _, err := n.Read(TCP); err != nil {
						t.Fatal(err)
					}
				}
				if err := n.open(); err != nil {
					t.Fatal(err)
				}
				s.answers, s.always, s.asked, s.dialled = test.answers, whole, 0, 0
				sockets, same, err := n.Read(TCP)
				if test.wantErr == "" && test.wantIs == nil {
					if err != nil {
						t.Fatal(err)
					}
				} else if err == nil || !strings.Contains(err.Error(), test.wantErr) || test.wantIs != nil && !errors.Is(err, test.wantIs) {
					t.Errorf("got error %v, want %q %v", err, test.wantErr, test.wantIs)
				}
				if diff := cmp.Diff(test.want, portsOf(sockets)); diff != "" {
					t.Errorf("ports (-want +got):\n%s", diff)
				}
				if wantSame := before.name == "later" && err == nil; same != wantSame {
					t.Errorf("same = %t, want %t", same, wantSame)
				}
				if s.asked != test.asked || s.dialled != test.dialled {
					t.Errorf("%d dumps and %d further sockets, want %d and %d", s.asked, s.dialled, test.asked, test.dialled)
				}

				// And afterwards it is as if nothing had been: but after a failure nobody knows what the caller has.
				failed := err != nil
				for i := range 2 {
					sockets, same, err := n.Read(TCP)
					if err != nil {
						t.Fatal(err)
					}
					if diff := cmp.Diff([]uint16{1, 2, 3}, portsOf(sockets)); diff != "" {
						t.Errorf("ports of the next read but %d (-want +got):\n%s", i, diff)
					}
					if want := i > 0 || !failed; same != want {
						t.Errorf("the next read but %d: same = %t, want %t", i, same, want)
					}
				}
			})
		}
	}
}

func TestALookupThatFailsFailsTheConfirmationAlone(t *testing.T) {
	s := &script{t: t, always: []arrival{{datagram: join(rows(1, 2), dumpDone)}}}
	n := s.source()
	if _, _, err := n.Read(TCP); err != nil {
		t.Fatal(err)
	}
	for _, answer := range [][]arrival{
		{{err: unix.EAGAIN}},
		{{err: unix.ENOBUFS}},
		{{datagram: rows(1), missing: receiveBuffer}},
		{{datagram: dumpDone, sender: 4711}, {datagram: message(unix.NLMSG_ERROR, 0, code(-int32(unix.EPERM)))}},
	} {
		s.answers = [][]arrival{answer}
		if there, err := n.Confirm(TCP, []Socket{sshSocket}); err == nil {
			t.Errorf("after %v: no error, but %v", answer, there)
		}
		if sockets, same, err := n.Read(TCP); err != nil || !same || len(sockets) != 2 {
			t.Errorf("after %v a read gives %v, same %t, %v", answer, sockets, same, err)
		}
	}
}

func TestASourceThatIsClosedAfterEachReadGoesOnWithWhatItKnows(t *testing.T) {
	s := &script{t: t, always: []arrival{{datagram: join(rows(1, 2), dumpDone)}}}
	n := s.source()
	for i := range 3 {
		sockets, same, err := n.Read(TCP)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff([]uint16{1, 2}, portsOf(sockets)); diff != "" || same != (i > 0) {
			t.Errorf("read %d: same %t; ports (-want +got):\n%s", i, same, diff)
		}
		n.close()
		n.close() // again is nothing
	}
	if s.dialled != 3 {
		t.Errorf("%d sockets, want 3", s.dialled)
	}
}

func TestAFailureToOpenASocketIsAFailedRead(t *testing.T) {
	n := newNetlink("", func(func() error) error { return unix.ESRCH }, make([]byte, receiveBuffer), TCP)
	for range 2 {
		if sockets, _, err := n.Read(TCP); !errors.Is(err, unix.ESRCH) || sockets != nil {
			t.Errorf("got %v, %v, want %v", sockets, err, unix.ESRCH)
		}
		if sockets, err := n.Confirm(TCP, []Socket{sshSocket}); !errors.Is(err, unix.ESRCH) || sockets != nil {
			t.Errorf("a confirmation gives %v, %v, want %v", sockets, err, unix.ESRCH)
		}
	}
}

func TestNamesOfInterfacesAreUTF8AndStayDistinct(t *testing.T) {
	for name, want := range map[string]string{
		"eth0":           "eth0",
		"":               "",
		"7":              "7",
		DeviceGone:       `\x28gone)`,
		`\x28gone)`:      `\x5cx28gone)`,
		"(gone":          "(gone",
		"büro":           "büro",
		"a\ufffdb":       "a\ufffdb",
		"\xff":           `\xff`,
		"a\xc3":          `a\xc3`,
		"\xc3\xbc\xfe\n": `ü\xfe` + "\n",
		`a\b`:            `a\b`,
		`\xff`:           `\x5cxff`,
		"\\\xff":         `\\xff`,
		`\\xff`:          `\\x5cxff`,
	} {
		if got := escaped(name); got != want {
			t.Errorf("%q is written %q, want %q", name, got, want)
		}
	}
}

// FuzzNamesOfInterfaces shows that a name can be read back from how it is written, so that no two are written alike.
func FuzzNamesOfInterfaces(f *testing.F) {
	for _, name := range []string{"eth0", "\xff", `\xff`, "\\\xff", `\\x`, "büro", DeviceGone, `\x28gone)`} {
		f.Add(name)
	}
	f.Fuzz(func(t *testing.T, name string) {
		written := escaped(name)
		if strings.ToValidUTF8(written, "?") != written || written == DeviceGone {
			t.Errorf("%q is written %q", name, written)
		}
		if got := unescaped(t, written); got != name {
			t.Errorf("%q is written %q, which reads as %q", name, written, got)
		}
	})
}

func unescaped(t *testing.T, written string) string {
	t.Helper()
	var name []byte
	for len(written) > 0 {
		if code, isCode := strings.CutPrefix(written, `\x`); isCode {
			one, err := hex.DecodeString(code[:min(2, len(code))])
			if err != nil || len(one) != 1 {
				t.Fatalf("no code: %q, %v", written, err)
			}
			name, written = append(name, one...), code[2:]
			continue
		}
		name, written = append(name, written[0]), written[1:]
	}
	return string(name)
}
