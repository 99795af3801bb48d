//go:build linux

package lease_test

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"

	"github.com/listen-exporter/listen_exporter/internal/lease"
	"github.com/listen-exporter/listen_exporter/internal/ports"
	"github.com/listen-exporter/listen_exporter/test/host"
)

func TestALongRandomLifeIsThatOfASimpleModel(t *testing.T) {
	t.Parallel()
	l := newLife(t, 1)
	for n := range size(10_000, 1000) {
		did := l.step()
		if err := host.Await(10*time.Second, l.compare); err != nil {
			t.Fatalf("step %d, %s: %v", n, did, err)
		}
	}
	l.stop()
	t.Logf("%v", l.did)
}

// life is that of a manager and of the model that says what it must do. Its time goes by only when the test says so.
type life struct {
	t       *testing.T
	random  *rand.Rand
	path    string
	boot    atomic.Int64
	wall    atomic.Int64 // less boot
	bootID  int
	version atomic.Int64 // of the rules
	manager *lease.Manager
	stop    func()
	did     map[string]int

	// The model.
	leases    []lease.Lease
	listening map[uint16]bool // since the last look that was whole
	// seen is of which leases, and in which states, View had seenVersion.
	seen        string
	seenVersion uint64
}

const (
	lifeHost       = "here"
	lifeMaxTTL     = time.Hour
	lifeMaxPerUser = 24
)

// The ranges: everybody may lease from ci, and only alice from web.
var lifeRanges = []lease.Range{
	{Range: ports.Range{First: 21600, Last: 21619}, Team: "ci", Users: []string{"*"}},
	{Range: ports.Range{First: 21620, Last: 21629}, Team: "web", Users: []string{fmt.Sprint(alice)}, AnyUser: true},
	{Range: ports.Range{First: 21630, Last: 21639}, Team: "ci", Users: []string{"*"}},
}

func newLife(t *testing.T, seed uint64) *life {
	l := &life{
		t: t, random: rand.New(rand.NewPCG(seed, 0)), path: filepath.Join(t.TempDir(), "leases.db"),
		did: make(map[string]int),
	}
	l.boot.Store(int64(time.Hour))
	l.wall.Store(time.Now().UnixNano())
	l.start()
	return l
}

func (l *life) now() time.Duration { return time.Duration(l.boot.Load()) }

// refuses reports whether the rules of now refuse a port.
func (l *life) refuses(port uint16) bool { return int64(port)%7 == l.version.Load()%7 }

func (l *life) rules() (lease.Rules, error) {
	claim := func(port uint16) string {
		if l.refuses(port) {
			return "forbidden"
		}
		return ""
	}
	return lease.Rules{
		Ranges: lifeRanges, Version: l.version.Load(), Service: func(name string) bool { return name == "sshd" },
		Refuse: claim, Claim: claim,
	}, nil
}

// start starts a manager with what an earlier one has left.
func (l *life) start() {
	store, err := lease.OpenFile(l.path, lifeHost, lease.Clock{
		Boot: l.now, Wall: func() time.Time { return time.Unix(0, l.boot.Load()+l.wall.Load()) }, BootID: fmt.Sprint(l.bootID),
	})
	if err != nil {
		l.t.Fatal(err)
	}
	l.manager, err = lease.NewManager(lease.Options{
		Store: store, Host: lifeHost, MaxTTL: lifeMaxTTL, MaxPerUser: lifeMaxPerUser, Clock: l.now,
	})
	if err != nil {
		l.t.Fatal(err)
	}
	l.manager.Use(l.rules)
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { l.manager.Run(ctx) })
	l.stop = func() { cancel(); running.Wait() }
	l.listening = nil // until the first look
	l.seen = ""
}

// step does something at random, to the manager and to the model.
func (l *life) step() (did string) {
	defer func() { l.did[did]++ }()
	switch n := l.random.IntN(100); {
	case n < 40:
		return l.take()
	case n < 55:
		return l.change("renew", l.manager.Renew, func(i int) {
			l.leases[i].Deadline, l.leases[i].Overstayed = l.now()+l.leases[i].TTL, 0
		})
	case n < 65:
		return l.change("end", l.manager.End, func(i int) { l.leases = slices.Delete(l.leases, i, i+1) })
	case n < 80:
		l.boot.Add(l.random.Int64N(int64(lifeMaxTTL / 10)))
		return "time goes by"
	case n < 97:
		return l.look()
	case n < 98:
		l.version.Add(1)
		l.manager.Use(l.rules)
		return "other rules"
	case n < 99:
		l.stop()
		l.start()
		return "restart"
	default:
		return l.reboot()
	}
}

// reboot starts the manager on a host that has booted, and whose wall clock somebody may have set.
func (l *life) reboot() string {
	l.stop()
	before, after := l.now(), time.Duration(1+l.random.Int64N(int64(time.Minute)))
	gone := time.Duration(l.random.Int64N(int64(lifeMaxTTL))) - lifeMaxTTL/4
	l.bootID++
	l.wall.Add(int64(before + gone - after))
	l.boot.Store(int64(after))
	for i := range l.leases {
		of := &l.leases[i]
		of.Deadline = cmp.Or(min(after+of.Deadline-before-gone, after+of.TTL), -1)
		if of.Overstayed != 0 {
			of.Overstayed = cmp.Or(min(after+of.Overstayed-before-gone, after), -1)
		}
	}
	l.start()
	return "reboot"
}

func (l *life) look() string {
	listening, whole := make(map[uint16]bool), l.random.IntN(5) > 0
	for range l.random.IntN(8) {
		listening[lifeRanges[0].First+uint16(l.random.IntN(40))] = true
	}
	for i := range l.leases {
		if l.random.IntN(4) == 0 {
			listening[l.leases[i].Ports[0]] = true
		}
	}
	now := l.now()
	l.manager.Looked(now, slices.Collect(maps.Keys(listening)), whole)
	seen := func(port uint16) bool { return listening[port] }
	l.leases = slices.DeleteFunc(l.leases, func(of lease.Lease) bool {
		return now > of.Deadline && whole && !slices.ContainsFunc(of.Ports, seen)
	})
	for i := range l.leases {
		if of := &l.leases[i]; now > of.Deadline && of.Overstayed == 0 && slices.ContainsFunc(of.Ports, seen) {
			of.Overstayed = now
		}
	}
	if !whole {
		maps.Copy(listening, l.listening)
	}
	l.listening = listening
	return "look"
}

// listens reports whether a port of a lease listens, as far as is known.
func (l *life) listens(of lease.Lease) bool {
	return slices.ContainsFunc(of.Ports, func(port uint16) bool { return l.listening[port] })
}

// change renews or ends a lease that is there, or was.
func (l *life) change(what string, ask func(context.Context, string, uint32) (lease.Lease, error), apply func(i int)) string {
	id, i := "0123456789abcdef0123456789abcdef", -1
	if len(l.leases) > 0 && l.random.IntN(10) > 0 {
		i = l.random.IntN(len(l.leases))
		id = l.leases[i].ID
	}
	uid := []uint32{0, alice, bob}[l.random.IntN(3)]
	var want error
	if i < 0 {
		want = lease.ErrNoLease
	} else if uid != 0 && uid != l.leases[i].UID {
		want = lease.ErrNotYours
	}
	got, err := ask(l.t.Context(), id, uid)
	if want == nil && what == "renew" && slices.ContainsFunc(l.leases[i].Ports, l.refuses) {
		if _, is := errors.AsType[*lease.WithdrawnError](err); !is {
			l.t.Fatalf("renew of a lease with a port that is forbidden by now: got %v", err)
		}
		return "renew of what is forbidden by now"
	}
	if !errors.Is(err, want) {
		l.t.Fatalf("%s by %d: got %v, want %v", what, uid, err, want)
	}
	if err != nil {
		return what + " refused"
	}
	ended := l.leases[i]
	apply(i)
	if what == "renew" {
		ended = l.leases[i]
	}
	if diff := gocmp.Diff(ended, got); diff != "" {
		l.t.Fatalf("%s: %s", what, diff)
	}
	return what
}

// take asks for a lease, of which much may be wrong.
func (l *life) take() string {
	r := lease.Request{
		Team: []string{"ci", "ci", "ci", "web"}[l.random.IntN(4)], Name: "n", Proto: []string{"tcp", "udp"}[l.random.IntN(2)],
		TTL: lease.MinTTL + time.Duration(l.random.Int64N(int64(lifeMaxTTL-lease.MinTTL))), Count: 1 + l.random.IntN(6),
		UID: []uint32{0, alice, bob}[l.random.IntN(3)],
	}
	field := ""
	switch l.random.IntN(30) {
	case 0:
		r.Team, field = "nobody", "team"
	case 1:
		r.Name, field = "sshd", "name"
	case 2:
		r.Proto, field = "sctp", "proto"
	case 3:
		r.TTL, field = lifeMaxTTL+1, "ttl"
	case 4:
		r.Count, field = lease.MaxCount+1, "count"
	case 5:
		r.Key, field = "\n", "key"
	case 6, 7, 8, 9:
		r.Key = fmt.Sprint("key ", l.random.IntN(3))
	}
	if of := l.keyed(r.UID); len(of) > 0 && l.random.IntN(10) == 0 {
		was := of[l.random.IntN(len(of))]
		r.Key, r.Team, r.Name, r.Proto, r.TTL, r.Count = was.Key, was.Team, was.Name, was.Proto, was.TTL, len(was.Ports)
		field = ""
	}
	got, repeated, err := l.manager.Take(l.t.Context(), r)
	return l.judge(r, field, got, repeated, err)
}

// keyed returns the leases of a user that have a key.
func (l *life) keyed(uid uint32) (list []lease.Lease) {
	for _, of := range l.leases {
		if of.UID == uid && of.Key != "" {
			list = append(list, of)
		}
	}
	return list
}

// judge applies a request to the model, and fails the test unless the answer is what it must be.
func (l *life) judge(r lease.Request, field string, got lease.Lease, repeated bool, err error) (did string) {
	bad, limit, exhausted := new(lease.FieldError), new(lease.LimitError), new(lease.ExhaustedError)
	wrong := func(want string) {
		l.t.Helper()
		l.t.Fatalf("take %+v at %v: got %+v, %t, %v, want %s; leases %+v, listening %v", r, l.now(), got, repeated, err, want, l.leases, l.listening)
	}
	allowed := r.Team != "web" || r.UID != bob
	if field != "" && (allowed || field != "name") {
		if !errors.As(err, &bad) || bad.Field != field {
			wrong("an error of " + field)
		}
		return "take with a bad " + field
	}
	if !allowed {
		if _, is := errors.AsType[*lease.NotAllowedError](err); !is {
			wrong("that it is not allowed")
		}
		return "take that is not allowed"
	}
	now := l.now()
	if r.Key != "" {
		of := slices.IndexFunc(l.leases, func(of lease.Lease) bool { return of.UID == r.UID && of.Key == r.Key })
		switch {
		case of < 0:
		case !l.leases[of].Alive(now):
			l.leases = slices.Delete(l.leases, of, of+1) // its time is over, and in truth no port listens
		default:
			was := l.leases[of]
			if was.Team == r.Team && was.Name == r.Name && was.Proto == r.Proto && was.TTL == r.TTL && len(was.Ports) == r.Count {
				if err != nil || !repeated || !gocmp.Equal(was, got) {
					wrong("the lease that there is")
				}
				return "take again"
			}
			if !errors.As(err, &bad) || bad.Field != "key" {
				wrong("an error of the key")
			}
			return "take with the key of another"
		}
	}
	has := 0
	for _, of := range l.leases {
		if of.UID == r.UID && (of.Alive(now) || of.Overstayed != 0) {
			has += len(of.Ports)
		}
	}
	if has+r.Count > lifeMaxPerUser {
		if !errors.As(err, &limit) || limit.Has != has || limit.Limit != lifeMaxPerUser {
			wrong(fmt.Sprintf("an error of the limit, as the user has %d", has))
		}
		return "take of too many"
	}
	free, expired := l.free(r)
	if len(free)+len(expired) < r.Count {
		if !errors.As(err, &exhausted) || exhausted.Left != len(free)+len(expired) {
			wrong(fmt.Sprintf("that there are %d ports", len(free)+len(expired)))
		}
		return "take that finds too few"
	}
	did = "take"
	if len(free) < r.Count {
		did = "take of an expired one's"
		free = append(free, expired...)
	}
	taken := slices.Clone(got.Ports)
	slices.Sort(taken)
	if err != nil || repeated || len(slices.Compact(taken)) != r.Count ||
		slices.ContainsFunc(got.Ports, func(port uint16) bool { return !slices.Contains(free, port) }) {
		wrong(fmt.Sprintf("%d of the ports %v", r.Count, free))
	}
	want := lease.Lease{
		ID: got.ID, Team: r.Team, Name: r.Name, Proto: r.Proto, Ports: got.Ports, UID: r.UID, User: got.User, AnyUser: r.Team == "web",
		Host: lifeHost, Key: r.Key, TTL: r.TTL, Deadline: now + r.TTL,
	}
	if diff := gocmp.Diff(want, got); diff != "" {
		wrong(diff)
	}
	l.leases = slices.DeleteFunc(l.leases, func(of lease.Lease) bool {
		return slices.ContainsFunc(of.Ports, func(port uint16) bool { return slices.Contains(got.Ports, port) })
	})
	l.leases = append(l.leases, want)
	return did
}

// free returns the ports that are free for a request, and those of expired leases that may be given if these are too few.
func (l *life) free(r lease.Request) (free, expired []uint16) {
	for _, of := range lifeRanges {
		for port := of.First; port <= of.Last && of.Team == r.Team; port++ {
			by := slices.IndexFunc(l.leases, func(by lease.Lease) bool { return slices.Contains(by.Ports, port) })
			switch {
			case l.refuses(port) || l.listening[port]:
			case by < 0:
				free = append(free, port)
			case !l.leases[by].Alive(l.now()) && !l.listens(l.leases[by]):
				expired = append(expired, port)
			}
		}
	}
	return free, expired
}

// compare returns an error unless the manager shows what the model has.
func (l *life) compare() error {
	v, now := l.manager.View(), l.now()
	slices.SortFunc(l.leases, func(a, b lease.Lease) int { return cmp.Compare(a.Ports[0], b.Ports[0]) })
	if diff := gocmp.Diff(l.leases, v.Leases); len(l.leases)+len(v.Leases) > 0 && diff != "" || v.Err != nil || v.Time != now {
		return errors.Join(v.Err, fmt.Errorf("at %s: %s", v.Time, diff))
	}
	alive := make(map[uint16]*lease.Lease)
	teams, seen := []lease.Team{{Name: "ci"}, {Name: "web"}}, "of "
	leased := make(map[uint16]bool)
	for i := range l.leases {
		of := &l.leases[i]
		for _, port := range of.Ports {
			leased[port] = true
			if of.Alive(now) {
				alive[port] = of
			}
		}
		teams[slices.IndexFunc(teams, func(t lease.Team) bool { return t.Name == of.Team })].Leased += len(of.Ports)
		seen += fmt.Sprintf("%s %t %t;", of.ID, of.Alive(now), of.Overstayed != 0)
	}
	for _, r := range lifeRanges {
		for port := r.First; port <= r.Last; port++ {
			if !l.refuses(port) && !leased[port] && !l.listening[port] {
				teams[slices.IndexFunc(teams, func(t lease.Team) bool { return t.Name == r.Team })].Available++
			}
			for _, proto := range []string{"tcp", "udp"} {
				want := alive[port]
				if want != nil && want.Proto != proto {
					want = nil
				}
				if got, is := v.Of(proto, port); is != (want != nil) || is && got.ID != want.ID {
					return fmt.Errorf("%s %d is leased as %+v, want %+v", proto, port, got, want)
				}
			}
		}
	}
	if diff := gocmp.Diff(teams, v.Teams); diff != "" {
		return errors.New(diff)
	}
	if l.seen != "" && (l.seen == seen) != (l.seenVersion == v.Version) {
		return fmt.Errorf("the version was %d for %q, and is %d for %q", l.seenVersion, l.seen, v.Version, seen)
	}
	l.seen, l.seenVersion = seen, v.Version
	return nil
}
