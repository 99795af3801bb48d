package registry

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// The words of bind, as prefixes. An address is a prefix of full length, and 0.0.0.0 and :: are all addresses of their family.
var (
	anywhere = prefixes("0.0.0.0/0", "::/0")
	loopback = prefixes("127.0.0.0/8", "::1/128")
	// private is every address that the internet cannot reach: RFC 1918, RFC 6598, RFC 4193, link-local and loopback.
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

// bindForms are the forms of bind, for errors.
const bindForms = "want any, loopback, private, an address, a CIDR such as 10.0.0.0/8, or a list of them"

// parseBind parses a word, an address or a CIDR. It returns the allowed addresses, or what is wrong with text.
func parseBind(text string) (allowed []netip.Prefix, problem string) {
	switch text {
	case "any":
		return anywhere, ""
	case "loopback":
		return loopback, ""
	case "private":
		return private, ""
	case "*":
		return nil, "is not an address: want any"
	case "localhost":
		return nil, "is not an address: want loopback"
	}
	if ip, _, isCIDR := strings.Cut(text, "/"); isCIDR {
		return parseCIDR(text, ip)
	}
	addr, err := netip.ParseAddr(text)
	if err != nil {
		if at, err := netip.ParseAddrPort(text); err == nil {
			return nil, fmt.Sprintf("has a port: want %s, and the port in port:", at.Addr())
		}
		return nil, "is not an address: " + bindForms
	}
	if addr.Zone() != "" {
		return nil, fmt.Sprintf("names an interface: want %s", addr.WithZone(""))
	}
	if addr = addr.Unmap(); addr.IsUnspecified() {
		return []netip.Prefix{netip.PrefixFrom(addr, 0)}, ""
	}
	return []netip.Prefix{netip.PrefixFrom(addr, addr.BitLen())}, ""
}

// parseCIDR parses a CIDR that has ip before its slash.
func parseCIDR(text, ip string) (allowed []netip.Prefix, problem string) {
	prefix, err := netip.ParsePrefix(text)
	if err != nil {
		addr, err := netip.ParseAddr(ip)
		switch {
		case err != nil:
			return nil, "is not a CIDR: want a whole address before the /, such as 10.0.0.0/8"
		case addr.Zone() != "":
			return nil, fmt.Sprintf("names an interface: want %s", addr.WithZone(""))
		}
		return nil, fmt.Sprintf("is not a CIDR: want a length from 0 to %d after the /", addr.BitLen())
	}
	if prefix.Addr().Is4In6() {
		return nil, "is an IPv4-mapped range: want it as IPv4, such as 10.0.0.0/8"
	}
	if masked := prefix.Masked(); masked != prefix {
		return nil, fmt.Sprintf("has bits beyond its length: want %s, or the address %s", masked, prefix.Addr())
	}
	return []netip.Prefix{prefix}, ""
}

// permits reports whether bind allows addr, which is not IPv4-mapped and has no zone. A wildcard address needs its whole family.
func permits(bind []netip.Prefix, addr netip.Addr) bool {
	wildcard := addr.IsUnspecified()
	for _, prefix := range bind {
		if prefix.Contains(addr) && (!wildcard || prefix.Bits() == 0) {
			return true
		}
	}
	return false
}

// overlap reports whether both lists allow a common address.
func overlap(a, b []netip.Prefix) bool {
	for _, p := range a {
		if slices.ContainsFunc(b, p.Overlaps) {
			return true
		}
	}
	return false
}
