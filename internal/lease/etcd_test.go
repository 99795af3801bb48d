//go:build linux && etcd

package lease_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-kit/log"
	"github.com/google/go-cmp/cmp"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"github.com/listen-exporter/listen_exporter/internal/lease"
	"github.com/listen-exporter/listen_exporter/test/host"
)

// atOnce is within what an operation must have ended while etcd is away.
const atOnce = 10 * time.Second

// await waits for what must be so soon, on however busy a machine.
func await(t *testing.T, what string, done func() error) {
	t.Helper()
	if err := host.Await(time.Minute, done); err != nil {
		t.Fatalf("%s: %v", what, err)
	}
}

// lists returns what fails until a store lists these leases. Their deadlines are not compared.
func lists(s lease.Store, want ...lease.Lease) func() error {
	return func() error {
		got, err := s.Leases()
		if err != nil {
			return err
		}
		got = slices.Clone(got)
		for i := range got {
			got[i].Deadline = 0
		}
		for i := range want {
			want[i].Deadline = 0
		}
		if diff := cmp.Diff(append([]lease.Lease{}, want...), got); diff != "" {
			return fmt.Errorf("leases (-want +got):\n%s", diff)
		}
		return nil
	}
}

// rawClient returns a client of etcd that knows nothing of leases.
func rawClient(t *testing.T, etcd *host.Etcd) *clientv3.Client {
	t.Helper()
	client, err := clientv3.New(clientv3.Config{Endpoints: []string{etcd.URL}, Logger: zap.NewNop()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Close() })
	return client
}

// lines collects what is logged.
type lines struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

func TestHostsThatShareARangeGiveNoPortTwiceAndSeeWhoHasIt(t *testing.T) {
	t.Parallel()
	o := optionsOf(host.StartEtcd(t, "127.0.0.1"))
	// No clock of a host is like that of the other one.
	early, late := newHandClock(), newHandClock()
	late.pass(1000 * time.Hour)
	o.Clock = early.clock()
	one := openEtcd(t, o)
	defer closeStore(t, one)
	o.Host, o.Clock = "two", late.clock()
	two := openEtcd(t, o)
	defer closeStore(t, two)

	held := mustTake(t, one, wanted(1, 30000, 30001))
	other := wanted(2, 30001)
	other.Host = "two"
	var taken *lease.TakenError
	if _, err := two.Take(t.Context(), other); !errors.As(err, &taken) || taken.By.ID != held.ID || taken.By.Host != "one" {
		t.Errorf("the other host takes the port: %v", err)
	}
	other.Ports = []uint16{30002}
	if got, want := mustTake(t, two, other).Deadline, late.now()+other.TTL; got != want {
		t.Errorf("the deadline on the other host is %v, want %v", got, want)
	}
	await(t, "the one", lists(one, held, other))
	await(t, "the other", lists(two, held, other))
	for _, l := range mustList(t, two) {
		if l.Host == "one" && l.Deadline != 0 {
			t.Errorf("the deadline of another host's lease is %v, want none", l.Deadline)
		}
	}
	if err := one.Overstay(t.Context(), held.ID); err != nil {
		t.Fatal(err)
	}
	await(t, "overstayed", func() error {
		if leases, err := two.Leases(); err != nil || leases[0].Overstayed == 0 {
			return fmt.Errorf("leases on the other host: %+v, %w", leases, err)
		}
		return nil
	})
	if err := one.Remove(t.Context(), held.ID); err != nil {
		t.Fatal(err)
	}
	again := wanted(3, 30001)
	again.Host = "two"
	mustTake(t, two, again)
	await(t, "after a lease was removed", lists(one, again, other))
}

// TestAnEtcdWithoutSpaceIsReportedUntilItTakesWritesAgain, also if nobody asks for a lease. What is held can be renewed and ended meanwhile.
func TestAnEtcdWithoutSpaceIsReportedUntilItTakesWritesAgain(t *testing.T) {
	t.Parallel()
	etcd := host.StartEtcd(t, "127.0.0.1", "--quota-backend-bytes=200000")
	s := openEtcd(t, optionsOf(etcd))
	defer closeStore(t, s)
	held, ends := mustTake(t, s, wanted(1, 30000)), mustTake(t, s, wanted(2, 30001))
	client := rawClient(t, etcd)
	var err error
	for n := 0; err == nil && n < 10_000; n++ {
		_, err = client.Put(t.Context(), fmt.Sprint("/filler/", n), strings.Repeat("x", 20000))
	}
	if !errors.Is(err, rpctypes.ErrNoSpace) {
		t.Fatalf("etcd has space: %v", err)
	}
	if _, err := s.Take(t.Context(), wanted(3, 30002)); !errors.Is(err, lease.ErrAway) || !strings.Contains(err.Error(), "want etcd compacted") {
		t.Errorf("Take: %v", err)
	}
	if err := s.Unwritable(); !errors.Is(err, rpctypes.ErrNoSpace) {
		t.Errorf("after a lease was refused: %v", err)
	}
	held, err = s.Renew(t.Context(), held.ID)
	if err = errors.Join(err, s.Remove(t.Context(), ends.ID)); err != nil {
		t.Errorf("a lease is renewed and another ended: %v", err)
	}
	await(t, "what is held", lists(s, held))
	time.Sleep(6 * time.Second) // longer than until etcd is looked at again
	if err := s.Unwritable(); !errors.Is(err, rpctypes.ErrNoSpace) {
		t.Errorf("after a renewal and an end, which need no space: %v", err)
	}

	gone, err := client.Delete(t.Context(), "/filler/", clientv3.WithPrefix())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := client.Compact(t.Context(), gone.Header.Revision, clientv3.WithCompactPhysical()); err != nil {
		t.Fatal(err)
	}
	_, err = client.Defragment(t.Context(), strings.TrimPrefix(etcd.URL, "http://"))
	_, disarmed := client.AlarmDisarm(t.Context(), new(clientv3.AlarmMember))
	if err = errors.Join(err, disarmed); err != nil {
		t.Fatal(err)
	}
	await(t, "etcd takes writes", s.Unwritable)
	await(t, "what is held", lists(s, held))
	mustTake(t, s, wanted(4, 30002))
}

// TestEtcdEndsTheLeasesOfAHostThatIsGone: within 15 s after their time. Those of a host that is there stay until it removes them.
func TestEtcdEndsTheLeasesOfAHostThatIsGone(t *testing.T) {
	if testing.Short() {
		t.Skip("waits for 25 s")
	}
	t.Parallel()
	o := optionsOf(host.StartEtcd(t, "127.0.0.1"))
	one := openEtcd(t, o)
	o.Host = "two"
	two := openEtcd(t, o)
	defer closeStore(t, two)
	brief := func(number int, name string, port uint16) lease.Lease {
		l := wanted(number, port)
		l.Host, l.TTL = name, time.Second
		return l
	}
	mustTake(t, one, brief(1, "one", 30000))
	expired, overstayed := mustTake(t, two, brief(2, "two", 30001)), mustTake(t, two, brief(3, "two", 30002))
	if err := two.Overstay(t.Context(), overstayed.ID); err != nil {
		t.Fatal(err)
	}
	closeStore(t, one)
	numbers := func() []uint16 {
		var ports []uint16
		for _, l := range leasesOf(two) {
			ports = append(ports, l.Ports...)
		}
		return ports
	}
	if diff := cmp.Diff([]uint16{30000, 30001, 30002}, numbers()); diff != "" {
		t.Errorf("ports after the host has gone (-want +got):\n%s", diff)
	}
	start := time.Now()
	await(t, "etcd ends the lease", func() error {
		if got := numbers(); len(got) != 2 {
			return fmt.Errorf("ports: %v", got)
		}
		return nil
	})
	if took := time.Since(start); took < 10*time.Second {
		t.Errorf("it took %v, want at least 15 s", took)
	}
	time.Sleep(8 * time.Second)
	if diff := cmp.Diff([]uint16{30001, 30002}, numbers()); diff != "" {
		t.Errorf("ports of the host that is there (-want +got):\n%s", diff)
	}
	for _, l := range []lease.Lease{expired, overstayed} {
		if got, err := two.Renew(t.Context(), l.ID); err != nil || got.Overstayed != 0 {
			t.Errorf("renewed as %+v, %v", got, err)
		}
	}
}

// TestWithEtcdAwayWhatIsHeldStaysAndNothingIsGiven: whether it is killed or hangs, and it is found when it is back.
func TestWithEtcdAwayWhatIsHeldStaysAndNothingIsGiven(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name     string
		away     func(*host.Etcd) error
		back     func(*host.Etcd) error
		why      string
		unharmed bool
	}{
		{"killed", func(e *host.Etcd) error { e.Kill(); return nil }, (*host.Etcd).Start, "connection refused", false},
		{"hangs", (*host.Etcd).Pause, (*host.Etcd).Resume, "deadline", true},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			etcd := host.StartEtcd(t, "127.0.0.1")
			s := openEtcd(t, optionsOf(etcd))
			defer closeStore(t, s)
			held := mustTake(t, s, wanted(1, 30000))
			if err := test.away(etcd); err != nil {
				t.Fatal(err)
			}
			for round := range 2 { // when it is not known yet that etcd is away, and then
				for name, operation := range map[string]func() error{
					"take":     func() error { _, err := s.Take(t.Context(), wanted(2, 30001)); return err },
					"renew":    func() error { _, err := s.Renew(t.Context(), held.ID); return err },
					"overstay": func() error { return s.Overstay(t.Context(), held.ID) },
					"remove":   func() error { return s.Remove(t.Context(), held.ID) },
				} {
					start := time.Now()
					if err := operation(); !errors.Is(err, lease.ErrAway) {
						t.Errorf("%s: %v, want %v", name, err, lease.ErrAway)
					}
					if took := time.Since(start); took > atOnce {
						t.Errorf("%s took %v", name, took)
					}
				}
				if round == 0 {
					await(t, "etcd is missed", func() error {
						if _, err := s.Leases(); !errors.Is(err, lease.ErrAway) {
							return fmt.Errorf("error %w", err)
						}
						return nil
					})
				}
			}
			leases, err := s.Leases()
			if diff := cmp.Diff([]lease.Lease{held}, leases); diff != "" || !strings.Contains(err.Error(), test.why) {
				t.Errorf("error %v, want %s in it; leases (-want +got):\n%s", err, test.why, diff)
			}
			if err := test.back(etcd); err != nil {
				t.Fatal(err)
			}
			await(t, "etcd is found", func() error { _, err := s.Leases(); return err })
			// Whether what nobody answered was done is not known, but for a killed etcd.
			_, err = s.Renew(t.Context(), held.ID)
			if err != nil && (!test.unharmed || !errors.Is(err, lease.ErrNoLease)) {
				t.Errorf("renew: %v", err)
			}
			mustTake(t, s, wanted(3, 30003))
		})
	}
}

func TestAStoreOpensWhileEtcdIsAwayAndFindsItLater(t *testing.T) {
	t.Parallel()
	etcd := host.StartEtcd(t, "127.0.0.1")
	o := optionsOf(etcd)
	s := openEtcd(t, o)
	held := mustTake(t, s, wanted(1, 30000))
	closeStore(t, s)
	etcd.Kill()
	start := time.Now()
	s = openEtcd(t, o)
	defer closeStore(t, s)
	if took := time.Since(start); took > atOnce {
		t.Errorf("it took %v to open", took)
	}
	if leases, err := s.Leases(); len(leases) != 0 || !errors.Is(err, lease.ErrAway) {
		t.Errorf("leases %v, error %v: want none, and %v", leases, err, lease.ErrAway)
	}
	start = time.Now()
	if _, err := s.Renew(t.Context(), held.ID); !errors.Is(err, lease.ErrAway) || time.Since(start) > atOnce {
		t.Errorf("renew: %v after %v", err, time.Since(start))
	}
	if err := etcd.Start(); err != nil {
		t.Fatal(err)
	}
	await(t, "etcd is found", lists(s, held))
	if _, err := s.Renew(t.Context(), held.ID); err != nil {
		t.Error(err)
	}
}

// TestALeaseOutlivesTheLeaderOfEtcd: a member that ends takes no lease with it, and the others are used.
func TestALeaseOutlivesTheLeaderOfEtcd(t *testing.T) {
	t.Parallel()
	members := host.StartEtcds(t, 3, "127.0.0.1")
	o := optionsOf(members[0])
	for _, m := range members[1:] {
		o.Endpoints = append(o.Endpoints, m.URL)
	}
	s := openEtcd(t, o)
	defer closeStore(t, s)
	held := mustTake(t, s, wanted(1, 30000))
	for _, m := range members {
		client := rawClient(t, m)
		status, err := client.Status(t.Context(), m.URL)
		if err != nil {
			t.Fatal(err)
		}
		if status.Header.MemberId == status.Leader {
			m.Kill()
			break
		}
	}
	await(t, "renew with another leader", func() error {
		got, err := s.Renew(t.Context(), held.ID)
		if err == nil && got.Deadline <= held.Deadline {
			err = fmt.Errorf("the deadline is %v, want one after %v", got.Deadline, held.Deadline)
		}
		return err
	})
	await(t, "take with another leader", func() error {
		_, err := s.Take(t.Context(), wanted(2, 30001))
		return err
	})
	if got := mustList(t, s); len(got) != 2 {
		t.Errorf("leases: %v", got)
	}
}

// TestWhatIsNoLeaseIsLoggedOnceAndItsPortIsTaken.
func TestWhatIsNoLeaseIsLoggedOnceAndItsPortIsTaken(t *testing.T) {
	t.Parallel()
	etcd := host.StartEtcd(t, "127.0.0.1")
	o := optionsOf(etcd)
	var logged lines
	o.Logger = log.NewLogfmtLogger(&logged)
	client := rawClient(t, etcd)
	put := func(key, value string) {
		t.Helper()
		if _, err := client.Put(t.Context(), o.Prefix+key, value); err != nil {
			t.Fatal(err)
		}
	}
	put("port/30000", "not JSON")
	put("port/30001", `{"id":"0123456789abcdef0123456789abcdef"}`)
	put("port/1", "{}")
	put("port/99999", "{}")
	put("somebody's", "value")
	s := openEtcd(t, o)
	defer closeStore(t, s)
	held := wanted(1, 30004)
	held.Key = "x"
	mustTake(t, s, held)
	record, err := client.Get(t.Context(), o.Prefix+"port/30004")
	if err != nil {
		t.Fatal(err)
	}
	put("port/30002", string(record.Kvs[0].Value)) // while the store watches
	put("port/30003", strings.Repeat(" ", 1<<20))
	held.Key = "y"
	put("request/one/1000/y", "nonsense")

	foreign := []uint16{30000, 30001, 30002, 30003}
	await(t, "all are listed", func() error {
		leases, err := s.Leases()
		if err == nil && len(leases) != len(foreign)+1 {
			err = fmt.Errorf("leases: %v", leases)
		}
		return err
	})
	for i, port := range foreign {
		if got := mustList(t, s)[i]; got.Ports[0] != port || got.ID != "" || got.Name == "" {
			t.Errorf("listed as %+v, want port %d with a name and no ID", got, port)
		}
		var taken *lease.TakenError
		if _, err := s.Take(t.Context(), wanted(2, port)); !errors.As(err, &taken) || taken.Port != port {
			t.Errorf("take %d: %v", port, err)
		}
	}
	held.Ports = []uint16{30005}
	if _, err := s.Take(t.Context(), held); err == nil || !strings.Contains(err.Error(), o.Prefix+"request/one/1000/y") {
		t.Errorf("a request whose key has something else: %v", err)
	}
	for _, key := range []string{"30000", "30001", "30002", "30003", "1", "99999"} {
		if got := strings.Count(logged.String(), "key="+o.Prefix+"port/"+key+" "); got != 1 {
			t.Errorf("%s is logged %d times, want once, in:\n%s", key, got, logged.String())
		}
	}
	if strings.Contains(logged.String(), "somebody's") {
		t.Errorf("another program's key is logged:\n%s", logged.String())
	}
	for _, port := range foreign {
		if _, err := client.Delete(t.Context(), fmt.Sprintf("%sport/%d", o.Prefix, port)); err != nil {
			t.Fatal(err)
		}
	}
	await(t, "all are deleted", func() error { _, err := s.Take(t.Context(), wanted(3, foreign...)); return err })
}

// TestTheLeaseOfAHostWithANewerExporterIsOne, with what this one does not know of it.
func TestTheLeaseOfAHostWithANewerExporterIsOne(t *testing.T) {
	t.Parallel()
	etcd := host.StartEtcd(t, "127.0.0.1")
	o := optionsOf(etcd)
	s := openEtcd(t, o)
	defer closeStore(t, s)
	l := mustTake(t, s, wanted(1, 30000))
	client := rawClient(t, etcd)
	key := o.Prefix + "port/30000"
	record, err := client.Get(t.Context(), key)
	if err != nil {
		t.Fatal(err)
	}
	newer := strings.Replace(string(record.Kvs[0].Value), "{", `{"address":"192.0.2.1",`, 1)
	if _, err := client.Put(t.Context(), key, newer, clientv3.WithIgnoreLease()); err != nil {
		t.Fatal(err)
	}
	o.Host = "two"
	other := openEtcd(t, o)
	defer closeStore(t, other)
	if err := lists(other, l)(); err != nil {
		t.Error(err)
	}
}

// TestAnOperationWhoseContextEndsIsOver: the client has gone.
func TestAnOperationWhoseContextEndsIsOver(t *testing.T) {
	s := openEtcd(t, optionsOf(host.StartEtcd(t, "127.0.0.1")))
	defer closeStore(t, s)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.Take(ctx, wanted(1, 30000)); !errors.Is(err, lease.ErrAway) || !errors.Is(err, context.Canceled) {
		t.Errorf("take: %v", err)
	}
	if _, err := s.Leases(); err != nil {
		t.Errorf("etcd is away afterwards: %v", err)
	}
	mustTake(t, s, wanted(1, 30000))
}

func TestNoLeaseEndsEarlierAfterARestart(t *testing.T) {
	t.Parallel()
	o := optionsOf(host.StartEtcd(t, "127.0.0.1"))
	s := openEtcd(t, o)
	l := wanted(1, 30000)
	l.TTL = time.Minute
	l = mustTake(t, s, l)
	for range 5 { // at several parts of a second
		time.Sleep(170 * time.Millisecond)
		closeStore(t, s)
		s = openEtcd(t, o)
		if got := mustList(t, s); len(got) != 1 || got[0].Deadline < l.Deadline {
			t.Errorf("it was taken until %v, and now there is %+v", l.Deadline, got)
		}
	}
	closeStore(t, s)
}
