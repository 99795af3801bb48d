//go:build linux

// Package lease hands out ports of reserved ranges for a time: the dynamic half of the registry.
//
// A Manager decides who gets which port, a Store keeps the leases where a crash does not lose them, and a View is what living leases
// say of the listeners.
package lease

import (
	"slices"
	"time"
)

// Lease is one or more ports of a team's reserved ranges, given to a user for a time. All its ports begin and end together.
type Lease struct {
	// ID is 32 hexadecimal digits. It is no secret: only the user who took the lease, and root, may renew or end it.
	ID string
	// Team is whose range the ports are from. Name is the service_name of a listener on them.
	Team, Name string
	// Proto is tcp or udp.
	Proto string
	// Ports are the leased ports, in the order in which they were given. No other lease has one of them, of any protocol.
	Ports []uint16
	// UID is the user who took the lease, and User the name of that user, or the number if there is no name.
	UID  uint32
	User string
	// AnyUser reports whether the sockets may belong to another user than UID.
	AnyUser bool
	// Host is the host on which the ports are leased: its name in the registry.
	Host string
	// Key is what the client called its request, so that it can repeat it, or empty.
	Key string
	// TTL is for how long the lease was given, and for how long each renewal extends it.
	TTL time.Duration
	// Deadline is when it expires, on the clock CLOCK_BOOTTIME of this host. It is 0 for a lease of another host.
	Deadline time.Duration
	// Overstayed is when it had expired and one of its ports still listened, on the same clock, or 0. Its ports are not given to
	// others before that ends.
	Overstayed time.Duration
}

// Alive reports whether the lease has not expired at a time on CLOCK_BOOTTIME.
func (l *Lease) Alive(now time.Duration) bool { return l.Overstayed == 0 && now < l.Deadline }

// The states of a lease.
const (
	Held       = "held"
	Overstayed = "overstayed"
	Expired    = "expired"
)

// Has reports whether a protocol and port are leased.
func (l *Lease) Has(proto string, port uint16) bool {
	return l.Proto == proto && slices.Contains(l.Ports, port)
}

// Request is what somebody asks for. An empty field has a default, as far as it says one.
type Request struct {
	// Team is whose range the ports shall be from. By default it is the only team from whose ranges the user may lease.
	Team string
	// Name is at most 63 letters, digits, dots, dashes and underscores. By default it is the team's.
	Name string
	// Proto is tcp, which is the default, or udp.
	Proto string
	// TTL is at least MinTTL, and Options.MaxTTL at most. The default is DefaultTTL.
	TTL time.Duration
	// Count is how many ports to lease, at most MaxCount. The default is 1.
	Count int
	// Key, of at most 64 printable ASCII characters, makes it safe to repeat a request: a lease of the same user with the same Key
	// that is still alive is the answer.
	Key string
	// UID is who asks: the peer of the socket.
	UID uint32
}

// The limits of a Request.
const (
	MinTTL     = time.Second
	DefaultTTL = 5 * time.Minute
	MaxCount   = 32
)
