//go:build linux

package command

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/go-kit/log/level"

	"github.com/listen-exporter/listen_exporter/internal/lease/api"
	"github.com/listen-exporter/listen_exporter/internal/wording"
)

// Where the exporter does not answer, a renewal is tried often: the lease has two thirds of its time left. A restart needs no warning, so
// there is one when half of the time is over.
const (
	shortestRetry = 100 * time.Millisecond
	longestRetry  = 5 * time.Second
)

// keep renews a lease each third of its time, until ctx is done or there is no such lease any more. An expired lease is renewed as well:
// until its ports are given to somebody else, it is alive again then. So is one that the registry no longer permits: it may be mended.
func (l lessee) keep(ctx context.Context, leased api.Lease) {
	name := wording.Printable(leased.Name)
	deadline := time.Now().Add(remaining(leased))
	ttl := time.Duration(leased.TTL)
	warned, expired, withdrawn := false, false, false
	for wait := time.Until(deadline) / 3; ; {
		select {
		case <-ctx.Done():
			return
		case <-time.After(max(wait, shortestRetry)):
		}
		attempt, cancel := context.WithTimeout(ctx, min(answerTimeout, ttl))
		renewed, err := l.client.Renew(attempt, leased.ID)
		cancel()
		switch now := time.Now(); {
		case ctx.Err() != nil:
			return
		case err == nil:
			if warned {
				l.warn("the lease of " + portsOf(leased) + " is renewed again")
			}
			warned, expired, withdrawn = false, false, false
			deadline = now.Add(remaining(renewed))
			wait = time.Until(deadline) / 3
		case isWithdrawn(err):
			left := deadline.Sub(now)
			if !withdrawn {
				when := "expires in " + ageOf(left)
				if left <= 0 {
					when = "has expired"
				}
				l.warn(fmt.Sprintf("the lease of %s is not renewed and %s, but %s goes on: %s", portsOf(leased), when, name, l.why(err)))
			}
			warned, expired, withdrawn = true, true, true
			wait = ttl / 3
			if left > 0 { // a last time shortly before it expires
				wait = min(wait, max(left/2, longestRetry))
			}
		case isFinal(err) && withdrawn: // the warning was enough
			return
		case isFinal(err):
			l.warn(fmt.Sprintf("the lease of %s is lost, but %s goes on: %s", portsOf(leased), name, l.why(err)))
			return
		case now.Before(deadline):
			if !warned && deadline.Sub(now) < ttl/2 {
				warned = true
				l.warn(fmt.Sprintf("cannot renew the lease of %s, which expires in %s; until then it is tried again: %s", portsOf(leased), ageOf(deadline.Sub(now)), l.why(err)))
			}
			wait = min(ttl/10, longestRetry, deadline.Sub(now))
		default:
			if !expired {
				l.warn(fmt.Sprintf("the lease of %s has expired, but %s goes on: %s", portsOf(leased), name, l.why(err)))
			}
			warned, expired = true, true
			wait = ttl / 3
		}
	}
}

// remaining returns how long a lease lives from now on. One that was taken before, by a request with the same key, has less than its TTL left.
func remaining(leased api.Lease) time.Duration {
	ttl := time.Duration(leased.TTL)
	if leased.Expires == nil {
		return ttl
	}
	return min(time.Until(*leased.Expires), ttl)
}

// isFinal reports whether a request would be refused again. A server that cannot reach its store, or does not answer, may answer later.
func isFinal(err error) bool {
	refused, is := errors.AsType[*api.Error](err)
	return is && refused.Status < http.StatusInternalServerError
}

// isWithdrawn reports whether the registry does not permit a lease any more: nobody but the user who took it renews it here.
func isWithdrawn(err error) bool {
	refused, is := errors.AsType[*api.Error](err)
	return is && refused.Status == http.StatusForbidden
}

// warn writes a line to stderr between those of the command.
func (l lessee) warn(text string) { level.Warn(l.streams.Logger).Log("msg", text) }
