//go:build linux

package lease

import (
	"errors"
	"fmt"
	"strings"
	"time"
)

// ErrNotYours is the error of a user who did not take a lease and is not root.
var ErrNotYours = errors.New("the lease is another user's: only the user who took it, and root, may renew or end it")

// NotAllowedError is the error of a user who may not lease from the ranges of a team.
type NotAllowedError struct {
	// User is who asked, and Team whose ranges they are, or empty if the user may lease from no range at all.
	User, Team string
	// Users are who may lease from them, as the registry names them. Root always may.
	Users []string
}

func (e *NotAllowedError) Error() string {
	of := "of any team"
	if e.Team != "" {
		of = "of team " + e.Team
	}
	may := "only root may"
	if len(e.Users) > 0 {
		may = fmt.Sprintf("only %s and root may", strings.Join(e.Users, ", "))
	}
	return fmt.Sprintf("user %s may not lease from the ranges %s, %s: want %[1]s in users of the range, in the registry", e.User, of, may)
}

// WithdrawnError is the error of a lease that the registry permitted when it was given, and permits no longer.
type WithdrawnError struct {
	// Why is what has changed.
	Why string
}

func (e *WithdrawnError) Error() string {
	return "the registry no longer permits the lease: " + e.Why
}

// FieldError is the error of a bad request.
type FieldError struct {
	// Field is the name of the field in JSON.
	Field string
	// Problem is what is wrong with it, and what is wanted.
	Problem string
}

func (e *FieldError) Error() string { return e.Field + ": " + e.Problem }

// LimitError is the error of a user or a team that has as many ports as it may have.
type LimitError struct {
	// Who is such as "user alice" or "team ci".
	Who string
	// Has is how many ports it has, and Limit how many it may have.
	Has, Limit int
}

func (e *LimitError) Error() string {
	return fmt.Sprintf("%s has %d of at most %d leased ports: end a lease first", e.Who, e.Has, e.Limit)
}

// ExhaustedError is the error of a range in which too few ports are left.
type ExhaustedError struct {
	Team string
	// Count is how many ports were asked for, Left how many are left, and Size how many the team's ranges have.
	Count, Left, Size int
	// Holders say what has the others, those of leases first. Of many there are only the first ones: More is how many more there are.
	Holders []PortHolder
	More    int
}

// PortHolder is what keeps a port from being leased.
type PortHolder struct {
	Port uint16
	// Why is such as "leased", "overstayed", "in use", or why the rules refuse the port.
	Why string
	// Name, User and Host are those of the lease, if one has it. Expires is when, on CLOCK_BOOTTIME, or 0 if that is not known.
	Name, User, Host string
	Expires          time.Duration
}

func (e *ExhaustedError) Error() string {
	verb := "are"
	if e.Count == 1 {
		verb = "is"
	}
	return fmt.Sprintf("team %s has %d of %d ports left, and %d %s asked for", e.Team, e.Left, e.Size, e.Count, verb)
}
