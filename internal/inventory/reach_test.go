//go:build linux

package inventory

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/listen-exporter/listen_exporter/internal/ports"
	"github.com/listen-exporter/listen_exporter/internal/socket"
)

func TestScopeIsHowFarAnAddressReaches(t *testing.T) {
	for address, want := range map[string]Scope{
		"0.0.0.0":          ScopeAny,
		"::":               ScopeAny,
		"127.0.0.1":        ScopeLoopback,
		"::1":              ScopeLoopback,
		"::ffff:127.0.0.1": ScopeLoopback,
		"169.254.0.1":      ScopeLinkLocal,
		"fe80::1":          ScopeLinkLocal,
		"255.255.255.255":  ScopeLinkLocal,
		"10.0.0.1":         ScopePrivate,
		"172.16.0.1":       ScopePrivate,
		"100.64.0.1":       ScopePrivate,
		"fc00::1":          ScopePrivate,
		"100.128.0.1":      ScopePublic,
		"203.0.113.1":      ScopePublic,
		"2001:db8::1":      ScopePublic,
		"224.0.0.251":      ScopeMulticast,
		"ff02::fb":         ScopeMulticast,
	} {
		if got := scopeOf(netip.MustParseAddr(address)); got != want {
			t.Errorf("%s: got %s, want %s", address, got, want)
		}
	}
}

func TestRangeFollowsTheKernelsSettings(t *testing.T) {
	defaults := socket.PortRanges{UnprivilegedStart: 1024, EphemeralFirst: 32768, EphemeralLast: 60999}
	container := socket.PortRanges{UnprivilegedStart: 0, EphemeralFirst: 32768, EphemeralLast: 60999}
	raised := socket.PortRanges{UnprivilegedStart: 9000, EphemeralFirst: 10000, EphemeralLast: 65535}
	low := socket.PortRanges{UnprivilegedStart: 1024, EphemeralFirst: 1000, EphemeralLast: 2000}
	reserving := socket.PortRanges{
		UnprivilegedStart: 1024, EphemeralFirst: 1024, EphemeralLast: 65535, Reserved: ports.Set{{First: 80, Last: 80}, {First: 8120, Last: 8125}},
	}
	for _, test := range []struct {
		port   uint16
		ranges socket.PortRanges
		want   Range
	}{
		{1023, defaults, RangePrivileged},
		{1024, defaults, RangeUser},
		{32767, defaults, RangeUser},
		{32768, defaults, RangeEphemeral},
		{60999, defaults, RangeEphemeral},
		{61000, defaults, RangeUser},
		{22, container, RangePrivileged},
		{1024, container, RangeUser},
		{8999, raised, RangePrivileged},
		{9000, raised, RangeUser},
		{1001, low, RangePrivileged},
		{1024, low, RangeEphemeral},
		{8125, reserving, RangeUser},
		{8126, reserving, RangeEphemeral},
		{80, reserving, RangePrivileged},
	} {
		if got := rangeOf(test.port, test.ranges); got != test.want {
			t.Errorf("%d in %+v: got %s, want %s", test.port, test.ranges, got, test.want)
		}
	}
}

func TestScopeSetIsAList(t *testing.T) {
	var set ScopeSet
	for _, list := range []string{"loopback, link-local", "multicast"} {
		if err := set.Set(list); err != nil {
			t.Fatal(err)
		}
	}
	if got := set.String(); got != "loopback,link-local,multicast" {
		t.Errorf("got %s", got)
	}
	for _, list := range []string{"", "loopback,", "everywhere", "any,,any"} {
		if err := new(ScopeSet).Set(list); err == nil || !strings.Contains(err.Error(), "want one of any,public,multicast,private,link-local,loopback") {
			t.Errorf("%q: got %v", list, err)
		}
	}
}
