//go:build linux

package registry

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"unicode"

	"github.com/listen-exporter/listen_exporter/internal/wording"
)

// bind is what a service may listen on.
type bind struct {
	// addrs are the allowed addresses. An address is a prefix of full length, and 0.0.0.0 and :: are all addresses of their family.
	addrs []netip.Prefix
	// devices are interfaces: a socket that is bound to one of them may have any address.
	devices []string
	// local allows every socket that only this host reaches.
	local bool
}

// named has what the words of bind allow, once one was read.
var named struct {
	once                        sync.Once
	anywhere, loopback, private bind
}

func anywhere() bind { setNamed(); return named.anywhere }
func loopback() bind { setNamed(); return named.loopback }

// private returns every address that the internet cannot reach: RFC 1918, RFC 6598, RFC 4193, link-local and loopback.
func private() bind { setNamed(); return named.private }

func setNamed() {
	named.once.Do(func() {
		named.anywhere = bind{addrs: prefixes("0.0.0.0/0", "::/0")}
		named.loopback = bind{addrs: prefixes("127.0.0.0/8", "::1/128"), local: true}
		named.private = named.loopback.and(bind{addrs: prefixes("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "fc00::/7",
			"169.254.0.0/16", "fe80::/10")})
	})
}

func prefixes(texts ...string) []netip.Prefix {
	list := make([]netip.Prefix, len(texts))
	for i, text := range texts {
		list[i] = netip.MustParsePrefix(text)
	}
	return list
}

// and returns a bind that allows what either does.
func (b bind) and(o bind) bind {
	return bind{addrs: slices.Concat(b.addrs, o.addrs), devices: slices.Concat(b.devices, o.devices), local: b.local || o.local}
}

// size returns how many addresses and interfaces the bind names.
func (b bind) size() int { return len(b.addrs) + len(b.devices) }

// bindForms are the forms of bind, for errors.
const bindForms = `want any, loopback, private, an address, a CIDR such as 10.0.0.0/8, an interface such as "%eth0", or a list of them`

// parseBind parses a word, an address, a CIDR or an interface. It returns what that allows, or what is wrong with text.
func parseBind(text string) (allowed bind, problem string) {
	switch text {
	case "any":
		return anywhere(), ""
	case "loopback":
		return loopback(), ""
	case "private":
		return private(), ""
	case "*":
		return bind{}, "is not an address: want any"
	case "localhost":
		return bind{}, "is not an address: want loopback"
	}
	if device, isDevice := strings.CutPrefix(text, "%"); isDevice {
		return bind{devices: []string{device}}, checkDevice(device)
	}
	if ip, device, found := strings.Cut(text, "%"); found {
		device, _, _ = strings.Cut(device, "/")
		if addr, err := netip.ParseAddr(ip); err == nil && checkDevice(device) == "" {
			return bind{}, fmt.Sprintf(`names an address and an interface: want %s or "%%%s"`, addr, device)
		}
		return bind{}, "is not an address: " + bindForms
	}
	if ip, _, isCIDR := strings.Cut(text, "/"); isCIDR {
		return parseCIDR(text, ip)
	}
	addr, err := netip.ParseAddr(text)
	if err != nil {
		if at, err := netip.ParseAddrPort(text); err == nil {
			return bind{}, fmt.Sprintf("has a port: want %s, and the port in port:", at.Addr())
		}
		if usualDevice.Get().MatchString(text) {
			return bind{}, fmt.Sprintf(`is not an address: want "%%%s" if it is an interface; otherwise %s`, text, strings.TrimPrefix(bindForms, "want "))
		}
		return bind{}, "is not an address: " + bindForms
	}
	if addr = addr.Unmap(); addr.IsUnspecified() {
		return bind{addrs: []netip.Prefix{netip.PrefixFrom(addr, 0)}}, ""
	}
	return bind{addrs: []netip.Prefix{netip.PrefixFrom(addr, addr.BitLen())}}, ""
}

// usualDevice is the form of the names that interfaces usually have.
var usualDevice = wording.Regexp(`^[a-z][-_a-z0-9]{1,14}$`)

// checkDevice returns what is wrong with the name of an interface, or nothing. The kernel has the same limits
// (dev_valid_name in net/core/dev.c), but would allow the globs.
func checkDevice(name string) string {
	const longest = 15 // bytes: IFNAMSIZ less the final zero byte
	if len(name) == 0 || len(name) > longest || name == "." || name == ".." || strings.ContainsAny(name, "/:*?") ||
		strings.ContainsFunc(name, unicode.IsSpace) || checkName(name) != "" {
		return `is not an interface: want the whole name of one after the %, at most 15 bytes, such as "%eth0"`
	}
	return ""
}

// parseCIDR parses a CIDR that has ip before its slash.
func parseCIDR(text, ip string) (allowed bind, problem string) {
	prefix, err := netip.ParsePrefix(text)
	if err != nil {
		addr, err := netip.ParseAddr(ip)
		if err != nil {
			return bind{}, "is not a CIDR: want a whole address before the /, such as 10.0.0.0/8"
		}
		return bind{}, fmt.Sprintf("is not a CIDR: want a length from 0 to %d after the /", addr.BitLen())
	}
	if prefix.Addr().Is4In6() {
		return bind{}, "is an IPv4-mapped range: want it as IPv4, such as 10.0.0.0/8"
	}
	if masked := prefix.Masked(); masked != prefix {
		return bind{}, fmt.Sprintf("has bits beyond its length: want %s, or the address %s", masked, prefix.Addr())
	}
	return bind{addrs: []netip.Prefix{prefix}}, ""
}

// permits reports whether the bind allows a listener for certain.
func (b *bind) permits(l *Listener) bool {
	return b.local && l.Loopback || l.Detailed && slices.Contains(b.devices, l.Device) || b.permitsAddr(l.ip())
}

// mayPermit reports whether the bind allows a listener on one of its interfaces, if it is on that one. The interface is not known.
func (b *bind) mayPermit(l *Listener) bool {
	addr := l.ip()
	return !l.Detailed && slices.ContainsFunc(b.devices, func(device string) bool {
		return reaches(device, []netip.Prefix{netip.PrefixFrom(addr, addr.BitLen())})
	})
}

// permitsAddr reports whether the bind allows an address, which is not IPv4-mapped and has no zone. A wildcard address needs its
// whole family.
func (b *bind) permitsAddr(addr netip.Addr) bool {
	wildcard := addr.IsUnspecified()
	for _, prefix := range b.addrs {
		if prefix.Contains(addr) && (!wildcard || prefix.Bits() == 0) {
			return true
		}
	}
	return false
}

// overlaps reports whether both binds allow a common listener.
func (b *bind) overlaps(o *bind) bool {
	for _, p := range b.addrs {
		if slices.ContainsFunc(o.addrs, p.Overlaps) {
			return true
		}
	}
	for _, device := range b.devices {
		if slices.Contains(o.devices, device) || reaches(device, o.addrs) {
			return true
		}
	}
	return slices.ContainsFunc(o.devices, func(device string) bool { return reaches(device, b.addrs) })
}

// reaches reports whether a socket that is bound to an interface can have one of the addresses. Loopback addresses have no other
// interface than lo, which hardly anybody renames.
func reaches(device string, addrs []netip.Prefix) bool {
	return slices.ContainsFunc(addrs, func(p netip.Prefix) bool {
		return device == "lo" || !slices.ContainsFunc(loopback().addrs, func(l netip.Prefix) bool { return l.Bits() <= p.Bits() && l.Contains(p.Addr()) })
	})
}
