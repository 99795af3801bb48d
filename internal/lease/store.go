//go:build linux

package lease

import (
	"context"
	"errors"
	"fmt"
)

// Store keeps leases. Once a method has returned nil, a crash does not undo it. Several goroutines may use it.
type Store interface {
	// Take stores a lease, and returns it with its Deadline, unless one of its ports is in the store, even by an expired lease: then the
	// error is a *TakenError. If the store has a lease of the same Host and UID with the same Key, which is not empty, it returns that.
	Take(ctx context.Context, l Lease) (Lease, error)
	// Renew sets the Deadline of a lease to its TTL from now, ends its Overstayed, and returns it. The error is ErrNoLease if the store
	// does not have it.
	Renew(ctx context.Context, id string) (Lease, error)
	// Overstay notes since when an expired lease is overstayed, and keeps it until it is removed.
	Overstay(ctx context.Context, id string) error
	// Remove removes a lease. It is no error if the store does not have it.
	Remove(ctx context.Context, id string) error
	// Leases returns the leases of all hosts, sorted by their first port, without waiting. What another method has returned is in them. The
	// slice must not be changed, and does not change: other leases are in another slice. If the store cannot be reached, they are
	// those that were last known, and the error, which is ErrAway or wraps it, says why.
	Leases() ([]Lease, error)
	// Unwritable returns why the store takes no leases although its own are known, or nil: a write has failed, and since then none has
	// succeeded that needs more space. It does not wait.
	Unwritable() error
	// Close closes the store. The leases stay.
	Close() error
}

var (
	// ErrNoLease is the error of a lease that is not there: it never was, it has ended, or it expired and its ports are free again.
	ErrNoLease = errors.New("no such lease: it has ended, or has expired")
	// ErrAway is the error of a store that cannot be reached. Whether the operation was done is not known.
	ErrAway = errors.New("the store of leases cannot be reached")
)

// TakenError is the error of a port that is leased already.
type TakenError struct {
	Port uint16
	// By is the lease that has it.
	By Lease
}

func (e *TakenError) Error() string { return fmt.Sprintf("port %d is leased as %s", e.Port, e.By.Name) }
