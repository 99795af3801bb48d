//go:build linux

package event

import (
	"errors"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/listen-exporter/listen_exporter/test/host"
	"github.com/listen-exporter/listen_exporter/test/netnstest"
)

// openWith calls Open on a thread that has only some capabilities of the second word of their set, from CAP_MAC_OVERRIDE. It
// returns why UDP is missing too.
func openWith(t *testing.T, keep uint32) (failure, withoutUDP error) {
	t.Helper()
	done := make(chan struct{})
	netnstest.OnOwnThread(func() {
		defer close(done)
		header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
		var sets [2]unix.CapUserData
		if failure = unix.Capget(&header, &sets[0]); failure != nil {
			return
		}
		sets[0].Effective, sets[1].Effective = 0, sets[1].Effective&keep
		if failure = unix.Capset(&header, &sets[0]); failure != nil {
			return
		}
		var source *Source
		if source, failure = Open(func() (string, error) { return host.CgroupRoot(t), nil }); failure != nil {
			return
		}
		withoutUDP = source.WithoutUDP()
		if withoutUDP == nil && source.Hooks() != hooksFunctions {
			withoutUDP = errors.New("UDP is there by " + source.Hooks())
		}
		failure = source.Close()
	})
	<-done
	return failure, withoutUDP
}

func TestOpenNamesTheRightsThatAreMissing(t *testing.T) {
	const perfmon, bpf = 1 << (unix.CAP_PERFMON - 32), 1 << (unix.CAP_BPF - 32)
	if err, _ := openWith(t, 0); !errors.Is(err, unix.EPERM) || !strings.Contains(err.Error(), "lacks CAP_BPF and CAP_PERFMON:") {
		t.Errorf("without rights: %v", err)
	}
	if missingRights(capBPF, capPerfmon) != "" {
		t.Skip("without CAP_BPF and CAP_PERFMON, there is no other case")
	}
	if err, _ := openWith(t, perfmon); !errors.Is(err, unix.EPERM) || !strings.Contains(err.Error(), "lacks CAP_BPF:") {
		t.Errorf("with only CAP_PERFMON: %v", err)
	}
	if err, _ := openWith(t, bpf); !errors.Is(err, unix.EPERM) || !strings.Contains(err.Error(), "lacks CAP_PERFMON:") {
		t.Errorf("with only CAP_BPF: %v", err)
	}
	open(t)
	err, withoutUDP := openWith(t, bpf|perfmon)
	if err != nil {
		t.Errorf("with CAP_BPF and CAP_PERFMON: %v", err)
	}
	if withoutUDP != nil && !strings.Contains(withoutUDP.Error(), "needs CAP_NET_ADMIN") {
		t.Errorf("UDP with CAP_BPF and CAP_PERFMON: %v", withoutUDP)
	}
	t.Log(withoutUDP)
}
