package registry

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// The words that bind knows, as the addresses they stand for. What is allowed is told by prefixes alone: an address is one
// of full length, and 0.0.0.0 and :: are all addresses of their family.
var (
	anywhere = prefixes("0.0.0.0/0", "::/0")
	loopback = prefixes("127.0.0.0/8", "::1/128")
	// private is what is not reachable from the internet: RFC 1918, RFC 6598, RFC 4193, link-local and, since that is
	// narrower still, loopback.
	private = append(loopback, prefixes("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "fc00::/7",
		"169.254.0.0/16", "fe80::/10")...)
)

func prefixes(texts ...string) []netip.Prefix {
	list := make([]netip.Prefix, len(texts))
	for i, text := range texts {
		list[i] = netip.MustParsePrefix(text)
	}
	return slices.Clip(list)
}

// How a bind is told where it is violated: its items, as long as they have no more than maxBoundTo bytes together.
const (
	maxBoundTo = 100
	separator  = ", "
	more       = ", …"
)

// binds returns the addresses that a bind allows, and itself as a person reads it.
func (p *parser) binds(n *yaml.Node) (bind []netip.Prefix, written string) {
	const want = "want any, loopback, private, an address, a CIDR such as 10.0.0.0/8, or a list of them"
	for _, item := range p.items(n, "bind", want) {
		allowed, problem := parseBind(item.Value)
		if problem != "" {
			p.at(item, "bind %s %s", quoted(item.Value), strings.ReplaceAll(problem, "WANT", want))
			continue
		}
		bind = append(bind, allowed...)
		switch {
		case written == "":
			written = item.Value
		case strings.HasSuffix(written, more):
		case len(written)+len(separator)+len(item.Value) > maxBoundTo:
			written += more
		default:
			written += separator + item.Value
		}
	}
	return bind, written
}

// parseBind reads one word, address or CIDR. In a problem, WANT stands for all that there is to want.
func parseBind(text string) (allowed []netip.Prefix, problem string) {
	switch text {
	case "any":
		return anywhere, ""
	case "loopback":
		return loopback, ""
	case "private":
		return private, ""
	case "*":
		return nil, "is no address: want any"
	case "localhost":
		return nil, "is no address: want loopback"
	}
	if prefix, err := netip.ParsePrefix(text); err == nil {
		switch masked := prefix.Masked(); {
		case prefix.Addr().Is4In6():
			return nil, "is an IPv4-mapped range: want it as IPv4, such as 10.0.0.0/8"
		case masked != prefix:
			return nil, fmt.Sprintf("has bits beyond its length: want %s, or the address %s", masked, prefix.Addr())
		}
		return []netip.Prefix{prefix}, ""
	}
	addr, err := netip.ParseAddr(text)
	if err != nil {
		if at, err := netip.ParseAddrPort(text); err == nil {
			return nil, fmt.Sprintf("has a port: want %s, and the port in port:", at.Addr())
		}
		if ip, _, isCIDR := strings.Cut(text, "/"); isCIDR {
			return nil, checkCIDR(ip)
		}
		return nil, "is no address: WANT"
	}
	if addr.Zone() != "" {
		return nil, fmt.Sprintf("names an interface: want %s", addr.WithZone(""))
	}
	if addr = addr.Unmap(); addr.IsUnspecified() {
		return []netip.Prefix{netip.PrefixFrom(addr, 0)}, ""
	}
	return []netip.Prefix{netip.PrefixFrom(addr, addr.BitLen())}, ""
}

// checkCIDR returns what is wrong with a CIDR that does not parse and that has ip before its slash.
func checkCIDR(ip string) string {
	addr, err := netip.ParseAddr(ip)
	if err != nil {
		return "is no CIDR: want a whole address before the /, such as 10.0.0.0/8"
	}
	return fmt.Sprintf("is no CIDR: want a length from 0 to %d behind the /", addr.BitLen())
}

// permits tells whether addr, which is not IPv4-mapped and has no zone, is within bind. A wildcard address is within nothing
// less than its whole family.
func permits(bind []netip.Prefix, addr netip.Addr) bool {
	wildcard := addr.IsUnspecified()
	for _, prefix := range bind {
		if prefix.Contains(addr) && (!wildcard || prefix.Bits() == 0) {
			return true
		}
	}
	return false
}

func overlap(a, b []netip.Prefix) bool {
	for _, p := range a {
		if slices.ContainsFunc(b, p.Overlaps) {
			return true
		}
	}
	return false
}
