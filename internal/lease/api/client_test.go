//go:build linux

package api

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/listen-exporter/listen_exporter/internal/lease"
	"github.com/listen-exporter/listen_exporter/test/host"
)

func newTestClient(t *testing.T, address string) *Client {
	t.Helper()
	client, err := NewClient(address, "", "")
	if err != nil {
		t.Fatal(err)
	}
	return client
}

func TestTheClientGetsWhatTheServerGives(t *testing.T) {
	leases := new(fake)
	client := newTestClient(t, "unix:"+serve(t, leases))
	before := time.Now().Truncate(time.Millisecond)
	given, err := client.Take(t.Context(), Request{Team: "ci", TTL: Duration(time.Minute), Count: 1, Key: "k"})
	if err != nil {
		t.Fatal(err)
	}
	if left := given.Expires.Sub(before); left < time.Minute || left > 2*time.Minute {
		t.Errorf("expires %v after the request, want a minute", left)
	}
	uid := uint32(os.Getuid())
	want := Lease{
		ID: anID, Team: "ci", Name: "web", Proto: "tcp", Ports: []uint16{30000}, UID: uid, User: leases.leases[anID].User,
		Host: "here", TTL: Duration(time.Minute), Expires: given.Expires, State: Held, Key: "k",
	}
	if diff := cmp.Diff(want, given); diff != "" {
		t.Errorf("Take (-want +got):\n%s", diff)
	}
	again, err := client.Take(t.Context(), Request{Key: "k"})
	if err != nil || again.ID != given.ID {
		t.Errorf("Take with the same key gives %+v, %v", again, err)
	}
	if renewed, err := client.Renew(t.Context(), given.ID); err != nil || renewed.ID != given.ID {
		t.Errorf("Renew gives %+v, %v", renewed, err)
	}
	if listed, err := client.Leases(t.Context()); err != nil || len(listed.Leases) != 1 || listed.Leases[0].ID != given.ID {
		t.Errorf("Leases gives %+v, %v", listed, err)
	}
	if ended, err := client.End(t.Context(), given.ID); err != nil || ended.ID != given.ID || ended.State != Ended {
		t.Errorf("End gives %+v, %v", ended, err)
	}
	var refused *Error
	if _, err := client.End(t.Context(), given.ID); !errors.As(err, &refused) || refused.Status != 404 || refused.Message != lease.ErrNoLease.Error() {
		t.Errorf("End of none gives %v", err)
	}
	leases.fails = lease.ErrAway
	if _, err := client.Take(t.Context(), Request{}); !errors.As(err, &refused) || refused.Status != 503 || refused.RetryAfter != 5*time.Second {
		t.Errorf("Take without a store gives %v", err)
	}
	leases.fails = &lease.ExhaustedError{Team: "ci", Count: 3, Size: 9, Holders: []lease.PortHolder{{Port: 30000, Why: "in use"}}, More: 8}
	_, err = client.Take(t.Context(), Request{})
	wantLeft := &Exhausted{Team: "ci", Count: 3, Size: 9, Holders: []Holder{{Port: 30000, Why: "in use"}}, More: 8}
	if !errors.As(err, &refused) || !cmp.Equal(wantLeft, refused.Exhausted) {
		t.Errorf("Take without ports gives %#v", err)
	}
}

func TestAClientWithoutAServerSaysWhatIsMissing(t *testing.T) {
	path := filepath.Join(host.OpenDir(t), "s")
	if _, err := newTestClient(t, "unix:"+path).Leases(t.Context()); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("without a socket: %v", err)
	}
	if err := bind(path, unix.SOCK_STREAM, false); err != nil {
		t.Fatal(err)
	}
	if _, err := newTestClient(t, "unix:"+path).Leases(t.Context()); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("with nobody on it: %v", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	path = serve(t, &fake{taking: func(ctx context.Context) { <-ctx.Done() }})
	if _, err := newTestClient(t, "unix:"+path).Take(ctx, Request{}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("with no answer in time: %v", err)
	}
	for _, address := range []string{"", "ftp://localhost:1", "http://", "http://localhost/path", "a b"} {
		if _, err := NewClient(address, "", ""); err == nil {
			t.Errorf("%q is an address", address)
		}
	}
}

func TestAnAnswerOfSomethingElseIsAnError(t *testing.T) {
	for text, want := range map[string]string{
		"<html>":         "the answer is not one of the API for leases",
		`{"ttl": "x"}`:   "the answer is not one of the API for leases",
		`{"ports": [0.5`: "the answer is not one of the API for leases",
	} {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Method == http.MethodDelete {
				w.WriteHeader(http.StatusBadGateway)
			}
			_, _ = w.Write([]byte(text))
		}))
		client := newTestClient(t, server.URL)
		if _, err := client.Take(t.Context(), Request{}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", text, err, want)
		}
		var refused *Error
		if _, err := client.End(t.Context(), anID); !errors.As(err, &refused) || refused.Message != "the answer is 502 Bad Gateway, which is not one of the API for leases" {
			t.Errorf("%s with an error: %v", text, err)
		}
		server.Close()
	}
}

// list and audit judge with what the API says, so the leases must be the same as in the exporter.
func TestAListingIsAViewAgain(t *testing.T) {
	now := lease.HostClock().Boot()
	kept := []lease.Lease{
		{ID: "1", Team: "ci", Name: "web", Proto: "tcp", Ports: []uint16{1, 2}, UID: 7, User: "ann", AnyUser: true, Host: "here", TTL: time.Minute, Deadline: now + time.Minute},
		{ID: "2", Team: "ci", Name: "db", Proto: "udp", Ports: []uint16{3}, UID: 7, User: "ann", Host: "here", TTL: time.Minute, Deadline: now + time.Hour},
		{ID: "3", Team: "ci", Name: "old", Proto: "tcp", Ports: []uint16{4}, Host: "here", TTL: time.Minute, Deadline: now - time.Minute},
		{ID: "4", Team: "ci", Name: "overstays", Proto: "tcp", Ports: []uint16{5}, Host: "here", TTL: time.Minute, Deadline: now - time.Minute, Overstayed: now - time.Second},
		{ID: "5", Team: "ci", Name: "far", Proto: "tcp", Ports: []uint16{6}, Host: "there", TTL: time.Minute},
	}
	ended := []lease.Lease{{ID: "6", Team: "ci", Name: "job", Proto: "tcp", Ports: []uint16{7}, UID: 7, User: "ann", Host: "here", TTL: time.Minute, Deadline: now - time.Second}}
	teams := []lease.Team{{Name: "ci", Leased: 5, Available: 6}}
	for _, away := range []error{nil, lease.ErrAway} {
		text := recorded(t, lease.View{Time: now, Leases: kept, Ended: ended, Teams: teams, Err: away})
		var listed Listing
		if err := json.Unmarshal([]byte(text), &listed); err != nil {
			t.Fatalf("%v in %s", err, text)
		}
		view := listed.View(now)
		if !errors.Is(view.Err, away) || view.Time != now || !cmp.Equal(view.Teams, teams) {
			t.Errorf("the view is %+v, with the error %v", view, view.Err)
		}
		same := cmp.Options{
			cmp.FilterPath(func(p cmp.Path) bool { return p.String() == "Deadline" }, cmp.Comparer(func(a, b time.Duration) bool {
				return (a == 0) == (b == 0) && (a-b).Abs() < 30*time.Second // there are two clocks, and the view was written a while ago
			})),
			cmp.FilterPath(func(p cmp.Path) bool { return p.String() == "Overstayed" }, cmp.Comparer(func(a, b time.Duration) bool {
				return (a == 0) == (b == 0) // since when is not listed
			})),
		}
		if diff := cmp.Diff(kept, view.Leases, same); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
		if diff := cmp.Diff(ended, view.Ended, same); diff != "" {
			t.Errorf("those that have ended (-want +got):\n%s", diff)
		}
		for n := range kept {
			if got, want := view.Leases[n].Alive(now), kept[n].Alive(now); got != want {
				t.Errorf("%s is alive: %t, want %t", kept[n].Name, got, want)
			}
			want := map[string]string{"web": Held, "db": Held, "old": Expired, "overstays": Overstayed, "far": Held}[kept[n].Name]
			if away != nil && want == Expired {
				want = Held // nobody can renew it
			}
			if got := view.State(&view.Leases[n]); listed.Leases[n].State != want || got != want {
				t.Errorf("%s is listed as %s, and then %s, want %s", kept[n].Name, listed.Leases[n].State, got, want)
			}
		}
	}
}

// recorded returns the listing of a view, as a user sees it who has no lease.
func recorded(t *testing.T, view lease.View) string {
	t.Helper()
	recorder := httptest.NewRecorder()
	write(recorder, http.StatusOK, (&handler{host: "here"}).listing(view, moment{view.Time, time.Now()}, 1))
	return recorder.Body.String()
}
