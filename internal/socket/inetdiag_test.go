//go:build linux

package socket

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"golang.org/x/sys/unix"
)

// asked is the exchange to which the messages below answer.
var asked = exchange{family: unix.AF_INET, proto: TCP, sequence: 7, port: 4242}

// message makes a netlink message that belongs to asked.
func message(kind, flags uint16, payload []byte) []byte {
	return messageOf(asked, uint32(headerLength+len(payload)), kind, flags, payload)
}

func messageOf(x exchange, length uint32, kind, flags uint16, payload []byte) []byte {
	m := binary.NativeEndian.AppendUint32(nil, length)
	m = binary.NativeEndian.AppendUint16(m, kind)
	m = binary.NativeEndian.AppendUint16(m, flags)
	m = binary.NativeEndian.AppendUint32(m, x.sequence)
	m = binary.NativeEndian.AppendUint32(m, x.port)
	m = append(m, payload...)
	for len(m)%4 != 0 {
		m = append(m, 0)
	}
	return m
}

// attribute makes an attribute that claims the given length besides its header.
func attribute(kind uint16, length int, value []byte) []byte {
	a := binary.NativeEndian.AppendUint16(nil, uint16(attrLength+length))
	a = binary.NativeEndian.AppendUint16(a, kind)
	a = append(a, value...)
	for len(a)%4 != 0 {
		a = append(a, 0)
	}
	return a
}

func whole(kind uint16, value []byte) []byte { return attribute(kind, len(value), value) }

// memInfo is the value of SKMEMINFO with a receive buffer and drops.
func memInfo(buffer, drops uint32) []byte {
	value := make([]byte, memInfoLength)
	binary.NativeEndian.PutUint32(value[4*unix.SK_MEMINFO_RCVBUF:], buffer)
	binary.NativeEndian.PutUint32(value[4*unix.SK_MEMINFO_DROPS:], drops)
	return value
}

// reply makes a struct inet_diag_msg with attributes.
func reply(family, state uint8, addr netip.AddrPort, attrs ...[]byte) []byte {
	r := make([]byte, replyLength)
	r[0], r[replyState] = family, state
	binary.BigEndian.PutUint16(r[replySourcePort:], addr.Port())
	copy(r[replySource:], addr.Addr().AsSlice())
	binary.NativeEndian.PutUint32(r[replyInterface:], 3)
	binary.NativeEndian.PutUint64(r[replyCookie:], 99)
	binary.NativeEndian.PutUint32(r[replyReadQueue:], 5)
	binary.NativeEndian.PutUint32(r[replyWriteQueue:], 128)
	for _, a := range attrs {
		r = append(r, a...)
	}
	return r
}

var (
	ssh       = netip.MustParseAddrPort("0.0.0.0:22")
	sshReply  = reply(unix.AF_INET, stateListen, ssh, whole(attrSKMemInfo, memInfo(87380, 6)))
	sshSocket = Socket{Addr: ssh, ID: 99, Queue: 5, QueueLimit: 128, Drops: 6, Interface: 3}
	sshRow    = message(unix.SOCK_DIAG_BY_FAMILY, unix.NLM_F_MULTI, sshReply)
	dumpDone  = message(unix.NLMSG_DONE, unix.NLM_F_MULTI, code(0))
)

func code(errno int32) []byte { return binary.NativeEndian.AppendUint32(nil, uint32(errno)) }

func join(messages ...[]byte) []byte {
	var all []byte
	for _, m := range messages {
		all = append(all, m...)
	}
	return all
}

func sshWith(attrs ...[]byte) []byte {
	return message(unix.SOCK_DIAG_BY_FAMILY, unix.NLM_F_MULTI, reply(unix.AF_INET, stateListen, ssh, attrs...))
}

// readOnce reads one datagram, as the whole of a dump.
func readOnce(x exchange, datagram []byte) (sockets []Socket, done bool, err error) {
	r := newReading()
	if done, err = x.read(r, datagram); err != nil {
		return nil, false, err
	}
	sockets, _ = r.end()
	return sockets, done, nil
}

// hostileDatagrams are what a kernel may say, and must never: by a speaking name.
var hostileDatagrams = map[string]struct {
	datagram []byte
	want     []Socket
	wantDone bool
	wantErr  string
	wantIs   error
}{
	"one_socket":               {datagram: sshRow, want: []Socket{sshSocket}},
	"a_whole_dump":             {datagram: join(sshRow, sshRow, dumpDone), want: []Socket{sshSocket, sshSocket}, wantDone: true},
	"nothing_listens":          {datagram: dumpDone, wantDone: true},
	"empty_datagram":           {},
	"noop":                     {datagram: join(message(unix.NLMSG_NOOP, 0, nil), sshRow), want: []Socket{sshSocket}},
	"another_state":            {datagram: message(unix.SOCK_DIAG_BY_FAMILY, 0, reply(unix.AF_INET, 1, ssh))},
	"unknown_attribute":        {datagram: sshWith(whole(99, []byte{1, 2, 3}), whole(attrSKMemInfo, memInfo(1, 6))), want: []Socket{sshSocket}},
	"attribute_with_flags":     {datagram: sshWith(whole(attrSKMemInfo|1<<14|1<<15, memInfo(1, 6))), want: []Socket{sshSocket}},
	"longer_attribute":         {datagram: sshWith(whole(attrSKMemInfo, append(memInfo(1, 6), 0, 0, 0, 0))), want: []Socket{sshSocket}},
	"another_sequence":         {datagram: messageOf(exchange{sequence: 6, port: 4242}, 20, unix.NLMSG_ERROR, 0, code(-1))},
	"another_port":             {datagram: messageOf(exchange{sequence: 7, port: 1}, 20, unix.NLMSG_DONE, 0, code(0))},
	"interrupted_of_another":   {datagram: messageOf(exchange{sequence: 6, port: 4242}, 20, unix.NLMSG_DONE, unix.NLM_F_DUMP_INTR, code(0))},
	"error_inside_done":        {datagram: join(sshRow, message(unix.NLMSG_DONE, 0, code(-int32(unix.ENOMEM)))), wantIs: unix.ENOMEM, wantErr: "end of dump: "},
	"done_without_a_code":      {datagram: message(unix.NLMSG_DONE, 0, nil), wantErr: "end of dump: 0 bytes are no error code"},
	"done_with_a_positive":     {datagram: message(unix.NLMSG_DONE, 0, code(5)), wantErr: "end of dump: unexpected code 5"},
	"error_no_entry":           {datagram: message(unix.NLMSG_ERROR, 0, code(-int32(unix.ENOENT))), wantIs: unix.ENOENT},
	"error_not_permitted":      {datagram: message(unix.NLMSG_ERROR, 0, code(-int32(unix.EPERM))), wantIs: unix.EPERM},
	"error_invalid":            {datagram: message(unix.NLMSG_ERROR, 0, code(-int32(unix.EINVAL))), wantIs: unix.EINVAL},
	"error_zero":               {datagram: message(unix.NLMSG_ERROR, 0, code(0)), wantErr: "netlink error: unexpected code 0"},
	"error_of_the_smallest":    {datagram: message(unix.NLMSG_ERROR, 0, code(-1<<31)), wantErr: "netlink error: "},
	"short_error":              {datagram: message(unix.NLMSG_ERROR, 0, []byte{1}), wantErr: "netlink error: 1 bytes are no error code"},
	"overrun":                  {datagram: message(unix.NLMSG_OVERRUN, 0, nil), wantErr: "unexpected type 4"},
	"unknown_type":             {datagram: message(99, 0, nil), wantErr: "unexpected type 99"},
	"interrupted":              {datagram: join(sshRow, message(unix.SOCK_DIAG_BY_FAMILY, unix.NLM_F_MULTI|unix.NLM_F_DUMP_INTR, sshReply)), wantIs: errInterrupted},
	"interrupted_at_the_end":   {datagram: join(sshRow, message(unix.NLMSG_DONE, unix.NLM_F_DUMP_INTR, code(0))), wantIs: errInterrupted},
	"short_header":             {datagram: join(sshRow, dumpDone[:headerLength-1]), wantErr: "netlink message of 15 bytes: shorter than its header"},
	"length_of_0":              {datagram: messageOf(asked, 0, unix.SOCK_DIAG_BY_FAMILY, 0, sshReply), wantErr: "claims 0 bytes"},
	"length_of_15":             {datagram: messageOf(asked, 15, unix.SOCK_DIAG_BY_FAMILY, 0, sshReply), wantErr: "claims 15 bytes"},
	"length_of_4_gib":          {datagram: messageOf(asked, 1<<32-1, unix.SOCK_DIAG_BY_FAMILY, 0, sshReply), wantErr: "claims 4294967295 bytes"},
	"length_past_the_end":      {datagram: messageOf(asked, uint32(len(sshRow)+4), unix.SOCK_DIAG_BY_FAMILY, 0, sshReply), wantErr: "but there are 128"},
	"short_record":             {datagram: message(unix.SOCK_DIAG_BY_FAMILY, 0, sshReply[:replyLength-1]), wantErr: "reply of 71 bytes, want at least 72"},
	"no_record":                {datagram: message(unix.SOCK_DIAG_BY_FAMILY, 0, nil), wantErr: "reply of 0 bytes, want at least 72"},
	"another_family":           {datagram: message(unix.SOCK_DIAG_BY_FAMILY, 0, reply(unix.AF_INET6, stateListen, ssh)), wantErr: "another address family: 10, want 2"},
	"short_attribute":          {datagram: sshWith([]byte{8, 0, 7}), wantErr: "shorter than its header"},
	"attribute_of_0":           {datagram: sshWith(attribute(attrSKMemInfo, -attrLength, memInfo(1, 1))), wantErr: "attribute claims 0 bytes"},
	"attribute_past_the_end":   {datagram: sshWith(attribute(attrSKMemInfo, 100, memInfo(1, 1))), wantErr: "attribute claims 104 bytes, but there are 40"},
	"short_meminfo":            {datagram: sshWith(whole(attrSKMemInfo, memInfo(1, 1)[:32])), wantErr: "SKMEMINFO of 32 bytes, want 36"},
	"no_meminfo":               {datagram: sshWith(), wantErr: "without the attribute SKMEMINFO"},
	"empty_v6only":             {datagram: sshWith(whole(attrSKV6Only, nil)), wantErr: "SKV6ONLY is empty"},
	"short_cgroup":             {datagram: sshWith(whole(attrCgroupID, []byte{1, 2, 3, 4})), wantErr: "CGROUP_ID of 4 bytes, want 8"},
	"a_good_row_before_a_bad":  {datagram: join(sshRow, message(unix.SOCK_DIAG_BY_FAMILY, 0, sshReply[:20])), wantErr: "reply of 20 bytes"},
	"unaligned_end":            {datagram: join(sshRow, dumpDone)[:len(sshRow)+len(dumpDone)-1], wantErr: "claims 20 bytes, but there are 19"},
	"header_cut_after_padding": {datagram: append(messageOf(asked, 18, unix.NLMSG_NOOP, 0, []byte{1, 2}), 1), wantErr: "of 1 bytes: shorter"},
}

func TestHostileDatagramsNeverBecomeAPartialAnswer(t *testing.T) {
	for name, test := range hostileDatagrams {
		t.Run(name, func(t *testing.T) {
			got, done, err := readOnce(asked, test.datagram)
			if test.wantErr == "" && test.wantIs == nil {
				if err != nil {
					t.Fatal(err)
				}
			} else {
				if err == nil {
					t.Fatalf("no error, but %v", got)
				}
				if !strings.Contains(err.Error(), test.wantErr) || test.wantIs != nil && !errors.Is(err, test.wantIs) {
					t.Errorf("got error %q, want %q %v", err, test.wantErr, test.wantIs)
				}
				return
			}
			if diff := cmp.Diff(test.want, got, cmpopts.EquateComparable(netip.AddrPort{})); diff != "" {
				t.Errorf("sockets (-want +got):\n%s", diff)
			}
			if done != test.wantDone {
				t.Errorf("done = %t, want %t", done, test.wantDone)
			}
		})
	}
}

func TestAReplyIsReadWhole(t *testing.T) {
	mdns := netip.MustParseAddrPort("[::ffff:224.0.0.251]:5353")
	datagram := message(unix.SOCK_DIAG_BY_FAMILY, 0, reply(unix.AF_INET6, stateClose, mdns,
		whole(attrSKV6Only, []byte{1}), whole(attrSKMemInfo, memInfo(212992, 1<<32-1)),
		whole(attrCgroupID, binary.NativeEndian.AppendUint64(nil, 1<<40))))
	x := asked
	x.family, x.proto = unix.AF_INET6, UDP
	got, done, err := readOnce(x, datagram)
	if err != nil || done {
		t.Fatal(done, err)
	}
	want := []Socket{{
		Addr: mdns, ID: 99, Queue: 5, QueueLimit: 212992, Drops: 1<<32 - 1, IPv6Only: true, Interface: 3, Cgroup: 1 << 40,
	}}
	if diff := cmp.Diff(want, got, cmpopts.EquateComparable(netip.AddrPort{})); diff != "" {
		t.Errorf("sockets (-want +got):\n%s", diff)
	}
}

// rowOf makes the reply of one socket.
func rowOf(port uint16, queue uint32) []byte {
	r := reply(unix.AF_INET, stateListen, netip.AddrPortFrom(netip.IPv4Unspecified(), port), whole(attrSKMemInfo, memInfo(1, 0)))
	binary.NativeEndian.PutUint32(r[replyReadQueue:], queue)
	return message(unix.SOCK_DIAG_BY_FAMILY, unix.NLM_F_MULTI, r)
}

func TestADumpIsReadAnewWhereItDiffersFromTheLast(t *testing.T) {
	a, b, c := rowOf(1, 0), rowOf(2, 0), rowOf(3, 0)
	r := newReading()
	for step, test := range []struct {
		name     string
		datagram []byte
		want     string
		same     bool
	}{
		{"nothing yet", nil, "", true},
		{"first", join(a, b, c), "1/0 2/0 3/0 ", false},
		{"unchanged", join(a, b, c), "1/0 2/0 3/0 ", true},
		{"a number changed", join(a, rowOf(2, 7), c), "1/0 2/7 3/0 ", false},
		{"unchanged", join(a, rowOf(2, 7), c), "1/0 2/7 3/0 ", true},
		{"the last one gone", join(a, rowOf(2, 7)), "1/0 2/7 ", false},
		{"one more", join(a, rowOf(2, 7), b), "1/0 2/7 2/0 ", false},
		{"another order", join(b, rowOf(2, 7), a), "2/0 2/7 1/0 ", false},
		{"twice the same", join(b, b, rowOf(2, 7), a), "2/0 2/0 2/7 1/0 ", false},
		{"all gone", nil, "", false},
		{"and back", join(a, b, c), "1/0 2/0 3/0 ", false},
	} {
		r.begin()
		if _, err := asked.read(r, test.datagram); err != nil {
			t.Fatal(err)
		}
		sockets, same := r.end()
		got := ""
		for _, s := range sockets {
			got += fmt.Sprintf("%d/%d ", s.Addr.Port(), s.Queue)
		}
		if got != test.want || same != test.same {
			t.Errorf("step %d, %s: got %s, same %t; want %s, same %t", step, test.name, got, same, test.want, test.same)
		}
	}
}

func TestAReadingThatWasGivenUpLeavesTheLastDumpAlone(t *testing.T) {
	r := newReading()
	for _, datagram := range [][]byte{join(rowOf(1, 0), rowOf(2, 0)), join(rowOf(1, 0), rowOf(5, 0), rowOf(6, 0))} {
		r.begin()
		if _, err := asked.read(r, datagram); err != nil {
			t.Fatal(err)
		}
		if len(datagram) < 300 {
			r.end()
		}
	}
	r.begin()
	if _, err := asked.read(r, join(rowOf(1, 0), rowOf(2, 0))); err != nil {
		t.Fatal(err)
	}
	if sockets, same := r.end(); !same || len(sockets) != 2 {
		t.Errorf("got %v, same %t", sockets, same)
	}
}

// FuzzReplies feeds whole datagrams to the reader: it must never panic, and give sockets of the family that was asked for. What
// it says of a dump must not depend on the one before.
func FuzzReplies(f *testing.F) {
	for _, hostile := range hostileDatagrams {
		f.Add(hostile.datagram, hostile.datagram, true, false)
		f.Add(join(sshRow, rowOf(1, 0)), hostile.datagram, true, false)
		f.Add(hostile.datagram, join(sshRow, dumpDone), true, false)
	}
	f.Add(join(rowOf(1, 0), rowOf(2, 0), rowOf(3, 0)), join(rowOf(1, 0), rowOf(2, 7), rowOf(3, 0)), true, false)
	f.Fuzz(func(t *testing.T, before, datagram []byte, ipv4, udp bool) {
		x := asked
		if !ipv4 {
			x.family = unix.AF_INET6
		}
		if udp {
			x.proto = UDP
		}
		sockets, done, err := readOnce(x, datagram)
		if err != nil && len(sockets) > 0 {
			t.Errorf("%d sockets with the error %v", len(sockets), err)
		}
		for _, s := range sockets {
			if !s.Addr.IsValid() || s.Addr.Addr().Is4() != ipv4 {
				t.Errorf("bad address in %v", s)
			}
		}
		if len(sockets)*(headerLength+replyLength) > len(datagram) {
			t.Errorf("%d sockets in %d bytes", len(sockets), len(datagram))
		}

		r := newReading()
		var last []Socket // of the last whole dump
		if _, err := x.read(r, before); err == nil {
			known, _ := r.end()
			last = slices.Clone(known)
		}
		for range 2 {
			r.begin()
			laterDone, laterErr := x.read(r, datagram)
			if (laterErr == nil) != (err == nil) || laterDone != done && err == nil {
				t.Fatalf("after another dump: done %t, %v; by itself: done %t, %v", laterDone, laterErr, done, err)
			}
			if err != nil {
				continue
			}
			later, same := r.end()
			if !slices.Equal(later, sockets) {
				t.Errorf("after another dump: %v, by itself: %v", later, sockets)
			}
			if same && !slices.Equal(later, last) {
				t.Errorf("%v are said to be %v", later, last)
			}
			last = slices.Clone(later)
		}
	})
}
