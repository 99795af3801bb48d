//go:build linux

package event

import (
	"encoding/binary"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"golang.org/x/sys/unix"

	"github.com/listen-exporter/listen_exporter/internal/socket"
)

// record returns a good record, after a change.
func record(change func([]byte)) []byte {
	b := make([]byte, recordSize)
	order := binary.NativeEndian
	order.PutUint64(b, 7_000)
	order.PutUint64(b[8:], 5_000)
	order.PutUint64(b[16:], 77)
	order.PutUint32(b[24:], 1234)
	order.PutUint32(b[28:], 1000)
	order.PutUint32(b[32:], 4026531840)
	order.PutUint32(b[36:], 3)
	order.PutUint16(b[40:], 8080)
	b[42], b[43] = unix.AF_INET, unix.IPPROTO_TCP
	copy(b[44:], []byte{127, 0, 0, 1})
	b[60], b[61] = byte(Closed), 1
	copy(b[64:], "nginx: worker")
	change(b)
	return b
}

func TestRecordsAreDecoded(t *testing.T) {
	closed := Event{
		Kind: Closed, Time: 7_000, Opened: 5_000,
		Place: Place{Proto: socket.TCP, Netns: 4026531840, Addr: netip.MustParseAddrPort("127.0.0.1:8080"), Interface: 3},
		PID:   1234, UID: 1000, Cgroup: 77, Comm: "nginx: worker",
		Others: true,
	}
	opened := closed
	opened.Kind, opened.Opened, opened.Others = Opened, 0, false
	mapped := closed
	mapped.Addr = netip.MustParseAddrPort("[::ffff:10.0.0.1]:8080")
	mapped.Proto = socket.UDP
	full := closed
	full.Comm = strings.Repeat("x", 16)
	for name, test := range map[string]struct {
		change func([]byte)
		want   Event
	}{
		"closed": {func([]byte) {}, closed},
		"opened": {func(b []byte) { b[60], b[61] = byte(Opened), 0 }, opened},
		"mapped_udp": {func(b []byte) {
			b[42], b[43] = unix.AF_INET6, unix.IPPROTO_UDP
			addr := mapped.Addr.Addr().As16()
			copy(b[44:], addr[:])
		}, mapped},
		"comm_without_end": {func(b []byte) { copy(b[64:], full.Comm) }, full},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := decode(record(test.change))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(test.want, got, cmpopts.EquateComparable(netip.AddrPort{})); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
			k := keyOf(got.Place)
			if back, err := k.place(); err != nil || back != got.Place {
				t.Errorf("the key of %+v is that of %+v, %v", got.Place, back, err)
			}
		})
	}
}

func TestForeignRecordsAreErrors(t *testing.T) {
	for name, bad := range map[string][]byte{
		"empty":            {},
		"short_record":     record(func([]byte) {})[:recordSize-1],
		"long_record":      append(record(func([]byte) {}), 0),
		"unknown_kind":     record(func(b []byte) { b[60] = 3 }),
		"no_kind":          record(func(b []byte) { b[60] = 0 }),
		"unknown_family":   record(func(b []byte) { b[42] = unix.AF_UNIX }),
		"unknown_protocol": record(func(b []byte) { b[43] = unix.IPPROTO_SCTP }),
	} {
		t.Run(name, func(t *testing.T) {
			if got, err := decode(bad); err == nil {
				t.Errorf("decoded as %+v", got)
			}
		})
	}
}

func FuzzDecode(f *testing.F) {
	f.Add(record(func([]byte) {}))
	f.Add(record(func(b []byte) { b[43] = unix.IPPROTO_UDP }))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		e, err := decode(b)
		if err != nil {
			return
		}
		if len(b) != recordSize || e.Kind != Opened && e.Kind != Closed || !e.Addr.IsValid() || e.Addr.Addr().Zone() != "" || len(e.Comm) > 16 {
			t.Errorf("%x is decoded as %+v", b, e)
		}
	})
}
