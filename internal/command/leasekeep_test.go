//go:build linux

package command

import (
	"io"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/listen-exporter/listen_exporter/internal/lease/api"
	"github.com/listen-exporter/listen_exporter/test/program"
)

// startUntilTold starts a command that ends with exit code 5 once end is called.
func (s *leaseServer) startUntilTold(t *testing.T) (e *program.Exporter, end func()) {
	t.Helper()
	cmd := s.command(t, "--", "sh", "-c", "read line; exit 5")
	input, writer := io.Pipe()
	cmd.Stdin = input
	e = program.Launch(t, cmd)
	return e, func() {
		writer.Close()
		if code := e.Wait(); code != 5 {
			t.Errorf("exit code %d, want 5, whatever became of the lease", code)
		}
	}
}

// shortTTL is that of leases whose renewals are awaited. An attempt takes that long at most, and a busy machine needs a second for one.
const shortTTL = 3 * time.Second

var away = api.Error{Message: "the store of leases cannot be reached"}

func TestALeaseIsRenewedWhileItsCommandRuns(t *testing.T) {
	t.Parallel()
	s := newLeaseServer(t)
	s.ttl = shortTTL
	began := time.Now()
	e, end := s.startUntilTold(t)
	s.awaitRequests(e, "renew", 3)
	if took := time.Since(began); took < s.ttl {
		t.Errorf("renewed 3 times in %s, want once each third of %s", took, s.ttl)
	}
	end()
	ended := s.requests()
	time.Sleep(s.ttl / 2)
	if requests := s.requests(); requests != ended || !strings.HasSuffix(requests, "renew DELETE") || e.Stderr.String() != "" {
		t.Errorf("requests %q, and half of the time before %q; on stderr: %s", requests, ended, e.Stderr.String())
	}
}

// A lease that a request with the same key took before may have little of its time left.
func TestALeaseThatSoonExpiresIsRenewedSoon(t *testing.T) {
	s := newLeaseServer(t)
	s.ttl = time.Hour
	s.refuse = func(what string, _ int) (int, any) {
		if what != http.MethodPost {
			return 0, nil
		}
		l, soon := s.lease(s.asked), time.Now().Add(600*time.Millisecond)
		l.Expires = &soon
		return http.StatusOK, l
	}
	e, end := s.startUntilTold(t)
	s.awaitRequests(e, "renew", 1)
	end()
}

func TestARestartOfTheExporterIsNoWarning(t *testing.T) {
	t.Parallel()
	s := newLeaseServer(t)
	s.ttl = 5 * shortTTL
	s.refuse = func(what string, before int) (int, any) {
		if what == "renew" && before == 0 {
			return http.StatusServiceUnavailable, away
		}
		return 0, nil
	}
	e, end := s.startUntilTold(t)
	s.awaitRequests(e, "renew", 2)
	end()
	if e.Stderr.String() != "" {
		t.Errorf("on stderr: %s", e.Stderr.String())
	}
}

// With the store or the exporter away, the command goes on. What is written is little, and whole: what happened, and how long it may last.
func TestALeaseThatCannotBeRenewedIsReportedOnceAndRenewedLater(t *testing.T) {
	t.Parallel()
	s := newLeaseServer(t)
	s.ttl = shortTTL
	s.refuse = func(what string, before int) (int, any) {
		if what == "renew" && before < 8 {
			return http.StatusServiceUnavailable, away
		}
		return 0, nil
	}
	e, end := s.startUntilTold(t)
	e.Await("the renewal", func() bool { return strings.Contains(e.Stderr.String(), "renewed again") })
	s.awaitRequests(e, "renew", 11)
	end()
	wantLines(t, e,
		"listen_exporter: warning: cannot renew the lease of port 30001, which expires in Ns; until then it is tried again: the store of leases cannot be reached",
		"listen_exporter: warning: the lease of port 30001 has expired, but sh goes on: the store of leases cannot be reached",
		"listen_exporter: warning: the lease of port 30001 is renewed again",
	)
}

// wantLines checks what is on stderr, in which N is how many seconds of a [shortTTL] are left.
func wantLines(t *testing.T, e *program.Exporter, want ...string) {
	t.Helper()
	left := regexp.MustCompile(`expires in [012]s`)
	if got := left.ReplaceAllString(e.Stderr.String(), "expires in Ns"); got != strings.Join(append(want, ""), "\n") {
		t.Errorf("on stderr:\n%s\nwant:\n%s", got, strings.Join(want, "\n"))
	}
}

var withdrawn = api.Error{Message: "the registry no longer permits the lease: port 30001: it is forbidden: telnet"}

const withdrawnWarning = "listen_exporter: warning: the lease of port 30001 is not renewed and expires in Ns, but sh goes on: the registry no longer permits the lease: port 30001: it is forbidden: telnet"

// A registry may be mended: what it refuses is asked for again, and reported once, whether the lease expires meanwhile or not.
func TestALeaseThatTheRegistryNoLongerPermitsIsReportedOnceAndRenewedLater(t *testing.T) {
	t.Parallel()
	s := newLeaseServer(t)
	s.ttl = shortTTL
	s.refuse = func(what string, before int) (int, any) {
		if what == "renew" && before < 5 {
			return http.StatusForbidden, withdrawn
		}
		return 0, nil
	}
	e, end := s.startUntilTold(t)
	e.Await("the renewal", func() bool { return strings.Contains(e.Stderr.String(), "renewed again") })
	end()
	wantLines(t, e, withdrawnWarning, "listen_exporter: warning: the lease of port 30001 is renewed again")
}

func TestALeaseThatTheRegistryNoLongerPermitsEndsWithoutAnotherWarning(t *testing.T) {
	t.Parallel()
	s := newLeaseServer(t)
	s.ttl = shortTTL
	s.refuse = func(what string, before int) (int, any) {
		switch {
		case what == http.MethodPost:
			return 0, nil
		case what == "renew" && before < 4:
			return http.StatusForbidden, withdrawn
		}
		return http.StatusNotFound, api.Error{Message: "no such lease: it has ended, or has expired"}
	}
	e, end := s.startUntilTold(t)
	s.awaitRequests(e, "renew", 5)
	time.Sleep(s.ttl / 2) // another renewal would come after a third
	end()
	if requests := s.requests(); requests != "POST renew renew renew renew renew DELETE" {
		t.Errorf("requests %q", requests)
	}
	wantLines(t, e, withdrawnWarning)
}

func TestALeaseThatIsLostIsReportedOnce(t *testing.T) {
	t.Parallel()
	s := newLeaseServer(t)
	s.ttl = shortTTL
	s.refuse = func(what string, _ int) (int, any) {
		if what == http.MethodPost {
			return 0, nil
		}
		return http.StatusNotFound, api.Error{Message: "no such lease: it has ended, or has expired"}
	}
	e, end := s.startUntilTold(t)
	e.Await("a line", func() bool { return e.Stderr.String() != "" })
	time.Sleep(s.ttl / 2) // another renewal would come after a third
	end()
	if requests := s.requests(); requests != "POST renew DELETE" {
		t.Errorf("requests %q", requests)
	}
	wantLines(t, e, "listen_exporter: warning: the lease of port 30001 is lost, but sh goes on: no such lease: it has ended, or has expired")
}

func TestALeaseThatCannotBeGivenBackIsReported(t *testing.T) {
	s := newLeaseServer(t)
	s.refuse = func(what string, _ int) (int, any) {
		if what == http.MethodDelete {
			return http.StatusServiceUnavailable, away
		}
		return 0, nil
	}
	e, end := s.startUntilTold(t)
	end()
	wantLines(t, e, "listen_exporter: warning: cannot give port 30001 back, which the exporter keeps until the lease expires: the store of leases cannot be reached")
}
