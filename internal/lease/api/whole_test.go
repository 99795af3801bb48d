//go:build linux

package api

import (
	"context"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/listen-exporter/listen_exporter/internal/lease"
	"github.com/listen-exporter/listen_exporter/internal/ports"
	"github.com/listen-exporter/listen_exporter/test/host"
	"github.com/listen-exporter/listen_exporter/test/netnstest"
)

// manage returns a manager of the ports from 30000 to 30004 with a store in a file. stop ends it.
func manage(t *testing.T, file string) (m *lease.Manager, stop func()) {
	t.Helper()
	store, err := lease.OpenFile(file, "here", lease.HostClock())
	if err != nil {
		t.Fatal(err)
	}
	m, err = lease.NewManager(lease.Options{Store: store, Host: "here", MaxTTL: time.Hour, MaxPerUser: 3})
	if err != nil {
		t.Fatal(err)
	}
	claim := func(port uint16) string {
		if port == 30004 {
			return `service "web" declares it`
		}
		return ""
	}
	m.Use(func() (lease.Rules, error) {
		return lease.Rules{
			Ranges: []lease.Range{{Range: ports.Range{First: 30000, Last: 30004}, Team: "ci", Users: []string{"61001", "61002"}}},
			Refuse: claim, Claim: claim,
			Service: func(name string) bool { return name == "web" },
		}, nil
	})
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		m.Run(ctx)
	}()
	return m, func() {
		cancel()
		<-ended
	}
}

// The users have numbers that have no names, on any host.
func TestSeveralUsersLeaseFromARealManager(t *testing.T) {
	netnstest.Run(t, func(t *testing.T) {
		inUse, err := net.Listen("tcp", "127.0.0.1:30003")
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = inUse.Close() }()
		dir := host.OpenDir(t)
		path, file := filepath.Join(dir, "lease.sock"), filepath.Join(dir, "leases.db")
		serving := func(do func(client *Client)) {
			t.Helper()
			m, stop := manage(t, file)
			defer stop()
			server, err := open("unix:" + path)
			if err != nil {
				t.Fatal(err)
			}
			server.options.Leases = m
			ctx, cancel := context.WithCancel(t.Context())
			ended := make(chan error)
			go func() { ended <- server.Run(ctx) }()
			do(newTestClient(t, "unix:"+path))
			cancel()
			if err := <-ended; err != nil {
				t.Error(err)
			}
		}
		check := func(uid uint32, want string, ask ...string) (id string) {
			t.Helper()
			got := result(t, uid, append([]string{path}, ask...)...)
			id, _, _ = strings.Cut(got, " ")
			if len(id) == 32 {
				got = strings.Replace(got, id, "ID", 1)
			}
			if !strings.HasPrefix(got, want) {
				t.Errorf("user %d, %q: got %q, want %q", uid, ask, got, want)
			}
			return id
		}
		var first, second string
		serving(func(client *Client) {
			check(61003, "403 ", "take", `{"team": "ci"}`)
			check(61001, `400 name: "web" is the name of a service of the registry: want another`, "take", `{"name": "web"}`)
			check(61001, "400 ttl: 2h is not from 1s to 1h, which is the exporter's --lease.max-ttl", "take", `{"ttl": "2h"}`)
			first = check(61001, "ID 61001", "take", `{"count": 2, "name": "job-1", "key": "k"}`)
			if again := check(61001, "ID 61001", "take", `{"count": 2, "name": "job-1", "key": "k"}`); again != first {
				t.Errorf("the same request gives %s, and gave %s", again, first)
			}
			check(61001, "429 user 61001 has 2 of at most 3 leased ports: end a lease first", "take", `{"count": 2}`)
			check(61002, "409 team ci has 1 of 5 ports left, and 2 are asked for", "take", `{"count": 2}`)
			second = check(61002, "ID 61002", "take", `{"key": "k"}`)
			check(61002, fmt.Sprint("403 ", lease.ErrNotYours), "end", first)

			_, err := client.Take(t.Context(), Request{}) // as root
			var got []string
			if refused, is := errors.AsType[*Error](err); is && refused.Exhausted != nil {
				for _, held := range refused.Holders {
					got = append(got, fmt.Sprint(held.Name, " ", held.User, " ", held.Why, " ", held.Expires != nil))
				}
			}
			slices.Sort(got) // the first lease has any port
			want := []string{"  in use false", `  service "web" declares it false`, "ci 61002 leased true", "job-1 61001 leased true", "job-1 61001 leased true"}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("what has the ports (-want +got):\n%s\n%v", diff, err)
			}
		})
		serving(func(client *Client) { // it was restarted
			check(61001, "ID 61001", "renew", first)
			check(61002, "ID 61002", "end", second)
			check(61002, fmt.Sprint("404 ", lease.ErrNoLease), "renew", second)
			check(0, "ID 61001", "end", first)
			listed, err := client.Leases(t.Context())
			want := Listing{Host: listed.Host, Teams: []Team{{"ci", 0, 4}}, Leases: []Lease{}}
			if len(listed.Ended) != 2 {
				t.Errorf("%+v have just ended, want 2", listed.Ended)
			}
			listed.Ended = nil
			if diff := cmp.Diff(want, listed); err != nil || diff != "" {
				t.Errorf("%v (-want +got):\n%s", err, diff)
			}
		})
	})
}
