//go:build linux

package lease_test

import (
	"strings"
	"testing"
	"time"

	"github.com/listen-exporter/listen_exporter/internal/lease"
)

func TestTheCheckerFindsWhatMustNotHappen(t *testing.T) {
	const s = time.Second
	given := func(id string, port uint16, at, ttl time.Duration) operation {
		return operation{
			Kind: take, Outcome: done, Call: at, Return: at + s/10,
			Lease: lease.Lease{ID: id, Name: id, Ports: []uint16{port}, TTL: ttl, Deadline: at + ttl},
		}
	}
	asked := func(kind kind, id string, at time.Duration, outcome outcome) operation {
		return operation{
			Kind: kind, Outcome: outcome, Call: at, Return: at + s/10,
			Lease: lease.Lease{ID: id, TTL: 10 * s, Deadline: at + 10*s},
		}
	}
	unanswered := func(id string, at, until time.Duration) operation {
		return operation{Kind: take, Outcome: unknown, Call: at, Return: until, Lease: lease.Lease{Name: id, TTL: 10 * s}}
	}
	listed := func(at time.Duration, leases ...lease.Lease) operation {
		return operation{Kind: list, Outcome: done, Call: at, Return: at + s/10, Leases: leases}
	}
	a, b := given("a", 7, 1*s, 10*s), given("b", 7, 5*s, 10*s)
	for name, test := range map[string]struct {
		operations []operation
		listening  []listening
		want       string
	}{
		"two ports": {operations: []operation{a, given("b", 8, 5*s, 10*s)}},
		"a port given twice": {
			operations: []operation{a, b},
			want:       "these cannot follow:\n  5s to 5.1s: take b done",
		},
		"a port given again after its end": {
			operations: []operation{a, asked(end, "a", 4*s, done), b},
		},
		"a port given again while its end may have been": {
			operations: []operation{a, {Kind: end, Outcome: unknown, Call: 4 * s, Return: forever, Lease: lease.Lease{ID: "a"}}, b},
		},
		"a port given again long after its end that may have been": {
			operations: []operation{a, {Kind: end, Outcome: unknown, Call: 3 * s, Return: 4 * s, Lease: lease.Lease{ID: "a"}}, b},
		},
		"a port given again long after its end that cannot have been, as the lease was renewed": {
			operations: []operation{
				a, {Kind: end, Outcome: unknown, Call: 3 * s, Return: 4 * s, Lease: lease.Lease{ID: "a"}}, asked(renew, "a", 4500*time.Millisecond, done), b,
			},
			want: "these cannot follow",
		},
		"a port given again after an end that may have been after a renewal": {
			operations: []operation{
				a, {Kind: end, Outcome: unknown, Call: 2 * s, Return: 6 * s, Lease: lease.Lease{ID: "a"}}, asked(renew, "a", 4*s, done), b,
			},
		},
		"a port given again, and the lease renewed after its end that may have been": {
			operations: []operation{
				a, {Kind: end, Outcome: unknown, Call: 4 * s, Return: forever, Lease: lease.Lease{ID: "a"}}, b, asked(renew, "a", 6*s, done),
			},
			want: "these cannot follow",
		},
		"a port given again before an end that may have been": {
			operations: []operation{a, b, {Kind: end, Outcome: unknown, Call: 5500 * time.Millisecond, Return: forever, Lease: lease.Lease{ID: "a"}}},
			want:       "these cannot follow",
		},
		"a port given again after its time": {
			operations: []operation{a, given("b", 7, 11*s, 10*s)},
		},
		"a port given again after the time of the lease, which was renewed": {
			operations: []operation{a, asked(renew, "a", 5*s, done), given("b", 7, 12*s, 10*s)},
			want:       "these cannot follow",
		},
		"a port given again after its time, which a renewal may have extended": {
			operations: []operation{
				a,
				{Kind: renew, Outcome: unknown, Call: 5 * s, Return: 6 * s, Lease: lease.Lease{ID: "a", TTL: 10 * s}},
				given("b", 7, 12*s, 10*s),
			},
		},
		"a lease that is there after its time, which a renewal before the last one may have extended": {
			operations: []operation{
				a,
				{Kind: renew, Outcome: unknown, Call: 2 * s, Return: 20 * s, Lease: lease.Lease{ID: "a", TTL: 10 * s}},
				asked(renew, "a", 5*s, done), asked(renew, "a", 25*s, done),
			},
		},
		"a lease that is there after the time of all renewals": {
			operations: []operation{
				a,
				{Kind: renew, Outcome: unknown, Call: 2 * s, Return: 6 * s, Lease: lease.Lease{ID: "a", TTL: 10 * s}},
				asked(renew, "a", 5*s, done), asked(renew, "a", 40*s, done),
			},
			want: "these cannot follow",
		},
		"a port given again while it listened": {
			operations: []operation{a, given("b", 7, 12*s, 10*s)},
			listening:  []listening{{2 * s, 13 * s}},
			want:       "these cannot follow",
		},
		"a port given again after it listened": {
			operations: []operation{a, given("b", 7, 14*s, 10*s)},
			listening:  []listening{{2 * s, 13 * s}},
		},
		"a lease that is gone before its time": {
			operations: []operation{a, asked(renew, "a", 9*s, none)},
			want:       "these cannot follow",
		},
		"a lease that is not listed before its time": {
			operations: []operation{a, listed(9 * s)},
			want:       "these cannot follow",
		},
		"a lease that is gone after its time": {
			operations: []operation{a, asked(renew, "a", 12*s, none), listed(13 * s)},
		},
		"a lease that is renewed just after its time": {
			operations: []operation{a, asked(renew, "a", 12*s, done), listed(13*s, a.Lease)},
		},
		"a lease that is kept long after its time": {
			operations: []operation{a, listed(17*s, a.Lease)},
			want:       "these cannot follow",
		},
		"a lease that is kept while its port listens": {
			operations: []operation{a, listed(17*s, a.Lease), listed(27 * s)},
			listening:  []listening{{3 * s, 20 * s}},
		},
		"a lease that is kept long after its port listened": {
			operations: []operation{a, listed(27*s, a.Lease)},
			listening:  []listening{{3 * s, 20 * s}},
			want:       "these cannot follow",
		},
		"a lease that is kept after its end": {
			operations: []operation{a, asked(end, "a", 2*s, done), listed(3*s, a.Lease)},
			want:       "these cannot follow",
		},
		"a take without an answer that was done": {
			operations: []operation{unanswered("a", 1*s, 2*s), listed(3*s, a.Lease), asked(end, "a", 4*s, done)},
		},
		"a take without an answer that was not done": {
			operations: []operation{unanswered("a", 1*s, 2*s), listed(3 * s), b},
		},
		"a take without an answer that is undone": {
			operations: []operation{unanswered("a", 1*s, 2*s), listed(3*s, a.Lease), listed(4 * s), b},
		},
		"a take without an answer that is undone, and back": {
			operations: []operation{unanswered("a", 1*s, 2*s), listed(3*s, a.Lease), listed(4 * s), listed(5*s, a.Lease)},
			want:       "these cannot follow",
		},
		"a take without an answer that is found again, and lost": {
			operations: []operation{unanswered("a", 1*s, 2*s), {Kind: again, Outcome: done, Call: 3 * s, Return: 4 * s, Lease: a.Lease}, listed(9 * s)},
			want:       "these cannot follow",
		},
		"a take without an answer that was done too late": {
			operations: []operation{unanswered("a", 1*s, 2*s), listed(3 * s), listed(4*s, a.Lease)},
			want:       "these cannot follow",
		},
		"a take without an answer that is kept long after its time": {
			operations: []operation{unanswered("a", 1*s, 2*s), listed(3*s, a.Lease), listed(18*s, a.Lease)},
			want:       "these cannot follow",
		},
		"a lease that nobody asked for": {
			operations: []operation{listed(3*s, a.Lease)},
			want:       "nobody asked for the lease",
		},
		"a port listed twice": {
			operations: []operation{a, unanswered("b", 1*s, 2*s), listed(3*s, a.Lease, b.Lease)},
			want:       "port 7 is listed with the leases a and b",
		},
		"a lease that is listed as another user's": {
			operations: []operation{a, listed(3*s, lease.Lease{ID: "a", UID: 1, Name: "a", Ports: []uint16{7}, TTL: 10 * s})},
			want:       "it is not what was given",
		},
		"an ID given twice": {
			operations: []operation{a, given("a", 8, 2*s, 10*s)},
			want:       "it was given before",
		},
		"a deadline that is too early": {
			operations: []operation{{Kind: take, Outcome: done, Call: s, Return: 2 * s, Lease: lease.Lease{TTL: 10 * s, Deadline: 10 * s}}},
			want:       "the deadline 10s is not 10s after it",
		},
		"a port outside of the range": {
			operations: []operation{given("a", 9, 1*s, 10*s)},
			want:       "port 9 is not in the range",
		},
	} {
		t.Run(name, func(t *testing.T) {
			h := history{
				operations: test.operations, ports: []uint16{7, 8}, listening: map[uint16][]listening{7: test.listening}, grace: 5 * s,
			}
			for at := time.Duration(0); at < 60*s; at += s / 2 { // somebody else is answered all the time
				h.operations = append(h.operations, operation{Kind: end, Outcome: refused, Return: at})
			}
			err := h.check()
			if (err == nil) != (test.want == "") || err != nil && !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v, want an error with %q", err, test.want)
			}
		})
	}
}
