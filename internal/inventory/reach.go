//go:build linux

package inventory

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/listen-exporter/listen_exporter/internal/socket"
)

// Scope is how far a listener reaches: the value of the scope label. It depends on the address and on the interface that the
// sockets are bound to; firewalls are not considered.
type Scope string

// The scopes, from the farthest reach to the nearest.
const (
	ScopeAny       Scope = "any"        // the wildcard addresses 0.0.0.0 and ::
	ScopePublic    Scope = "public"     // any other unicast address
	ScopeMulticast Scope = "multicast"  // 224.0.0.0/4 and ff00::/8
	ScopePrivate   Scope = "private"    // RFC 1918, RFC 6598 (carrier-grade NAT), and the unique local addresses of RFC 4193
	ScopeLinkLocal Scope = "link-local" // 169.254.0.0/16, fe80::/10, and the broadcast address
	ScopeLoopback  Scope = "loopback"   // 127.0.0.0/8, ::1, and any address on a loopback interface, or on one that is gone
)

var scopes = ScopeSet{ScopeAny, ScopePublic, ScopeMulticast, ScopePrivate, ScopeLinkLocal, ScopeLoopback}

var (
	sharedAddressSpace = netip.MustParsePrefix("100.64.0.0/10") // RFC 6598
	broadcast          = netip.MustParseAddr("255.255.255.255")
)

// scopeOf returns an address's scope. An IPv4-mapped IPv6 address reaches as far as its IPv4 part.
func scopeOf(addr netip.Addr) Scope {
	addr = addr.Unmap()
	switch {
	case addr.IsUnspecified():
		return ScopeAny
	case addr.IsLoopback():
		return ScopeLoopback
	case addr.IsMulticast():
		return ScopeMulticast
	case addr.IsLinkLocalUnicast(), addr == broadcast:
		return ScopeLinkLocal
	case addr.IsPrivate(), sharedAddressSpace.Contains(addr):
		return ScopePrivate
	default:
		return ScopePublic
	}
}

// ScopeSet is a set of scopes, written as a list such as "loopback,link-local". It is a flag value: each Set adds to it.
type ScopeSet []Scope

// Set adds a list of scopes to the set.
func (s *ScopeSet) Set(list string) error {
	for item := range strings.SplitSeq(list, ",") {
		scope := Scope(strings.TrimSpace(item))
		if !slices.Contains(scopes, scope) {
			return fmt.Errorf("%q is not a scope: want one of %s", item, scopes.String())
		}
		*s = append(*s, scope)
	}
	return nil
}

// String returns the list that makes the set.
func (s *ScopeSet) String() string {
	var names []string
	for _, scope := range *s {
		names = append(names, string(scope))
	}
	return strings.Join(names, ",")
}

// Options returns the scopes that may be in the list, for completion.
func (s *ScopeSet) Options() []string { return strings.Split(scopes.String(), ",") }

// IsCumulative reports to the flag parser that the flag may be given more than once.
func (s *ScopeSet) IsCumulative() bool { return true }

// Range is which part of the port numbers a port lies in: the value of the range label.
type Range string

// The ranges.
const (
	RangePrivileged Range = "privileged"
	RangeUser       Range = "user"
	RangeEphemeral  Range = "ephemeral"
)

// lastPrivileged is the last of the system ports (RFC 6335, section 6). They stay privileged where a container's
// ip_unprivileged_port_start is 0: an alert must not be disarmed by a sysctl.
const lastPrivileged = 1023

// rangeOf returns the range in which a port lies.
func rangeOf(port uint16, ranges socket.PortRanges) Range {
	switch p := int(port); {
	case p <= lastPrivileged || p < ranges.UnprivilegedStart:
		return RangePrivileged
	case ranges.EphemeralFirst <= p && p <= ranges.EphemeralLast && !ranges.Reserved.Contains(port):
		return RangeEphemeral
	default:
		return RangeUser
	}
}
