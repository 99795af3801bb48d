//go:build linux

package lease

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"time"
	"unicode/utf8"

	"github.com/listen-exporter/listen_exporter/internal/wording"
)

// record is a lease as a store keeps it, in JSON.
type record struct {
	ID      string        `json:"id"`
	Team    string        `json:"team"`
	Name    string        `json:"name"`
	Proto   string        `json:"proto"`
	Ports   []uint16      `json:"ports"`
	UID     uint32        `json:"uid"`
	User    string        `json:"user"`
	AnyUser bool          `json:"any_user,omitzero"`
	Host    string        `json:"host"`
	Key     string        `json:"key,omitzero"`
	TTL     time.Duration `json:"ttl"`
	// BootID says which boot Deadline and Overstayed count from. After another one, Expires and OverstayedWall, in nanoseconds of
	// Unix time, stand in for them.
	BootID         string        `json:"boot_id,omitzero"`
	Deadline       time.Duration `json:"deadline,omitzero"`
	Expires        int64         `json:"expires,omitzero"`
	Overstayed     time.Duration `json:"overstayed,omitzero"`
	OverstayedWall int64         `json:"overstayed_wall,omitzero"`
}

// The limits of a record.
const (
	maxRecord = 8 << 10
	maxText   = 255 // of a team, a user and a host
	maxTTL    = 10 * 365 * 24 * time.Hour
)

var (
	idForm   = wording.Regexp(`^[0-9a-f]{32}$`)
	nameForm = wording.Regexp(`^[A-Za-z0-9._-]{1,63}$`)
	keyForm  = wording.Regexp(`^[!-~]([ -~]{0,62}[!-~])?$`)
)

// recordOf returns the record of a lease.
func recordOf(l Lease, c Clock) record {
	boot, wall := c.Boot(), c.Wall().UnixNano()
	r := record{
		ID: l.ID, Team: l.Team, Name: l.Name, Proto: l.Proto, Ports: l.Ports, UID: l.UID, User: l.User, AnyUser: l.AnyUser,
		Host: l.Host, Key: l.Key, TTL: l.TTL,
		BootID: c.BootID, Deadline: l.Deadline, Expires: max(0, wall+int64(l.Deadline-boot)), Overstayed: l.Overstayed,
	}
	if l.Overstayed != 0 {
		r.OverstayedWall = max(0, wall+int64(l.Overstayed-boot)) // a wall clock may be near the epoch
	}
	return r
}

// lease returns the lease of a record, with its times on the clock of this boot.
func (r *record) lease(c Clock) Lease {
	l := Lease{
		ID: r.ID, Team: r.Team, Name: r.Name, Proto: r.Proto, Ports: r.Ports, UID: r.UID, User: r.User, AnyUser: r.AnyUser,
		Host: r.Host, Key: r.Key, TTL: r.TTL, Deadline: r.Deadline, Overstayed: r.Overstayed,
	}
	boot := c.Boot()
	if r.BootID == "" || r.BootID != c.BootID {
		wall := c.Wall().UnixNano()
		l.Deadline = boot + time.Duration(r.Expires-wall)
		if r.Overstayed != 0 {
			l.Overstayed = notZero(min(boot, boot+time.Duration(r.OverstayedWall-wall)))
		}
	}
	l.Deadline = notZero(min(l.Deadline, boot+r.TTL)) // whoever set the wall clock
	return l
}

// notZero returns a time that is not the one that means that there is none.
func notZero(at time.Duration) time.Duration {
	if at == 0 {
		return -1
	}
	return at
}

func (r *record) encode() ([]byte, error) { return json.Marshal(r) }

// decodeRecord parses a record, of which nothing may be missing or wrong. Only a store without a version has fields that are not known.
func decodeRecord(data []byte, hasVersion bool) (*record, error) {
	if len(data) > maxRecord {
		return nil, fmt.Errorf("it has %d bytes: want at most %d", len(data), maxRecord)
	}
	decoder := json.NewDecoder(bytes.NewReader(data))
	if hasVersion {
		decoder.DisallowUnknownFields()
	}
	r := new(record)
	if err := decoder.Decode(r); err != nil {
		return nil, err
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("something follows it")
	}
	return r, r.check()
}

func (r *record) check() error {
	text := func(s string) bool { return s != "" && len(s) <= maxText && utf8.ValidString(s) }
	sorted := slices.Sorted(slices.Values(r.Ports))
	// A sum of two times on the same clock cannot overflow.
	far := func(at time.Duration) bool { return at < -math.MaxInt64/4 || at > math.MaxInt64/4 }
	wall := func(at int64) bool { return at >= 0 && at <= math.MaxInt64/2 }
	var field string
	switch {
	case !idForm.Get().MatchString(r.ID):
		field = "id"
	case !text(r.Team):
		field = "team"
	case !nameForm.Get().MatchString(r.Name):
		field = "name"
	case r.Proto != "tcp" && r.Proto != "udp":
		field = "proto"
	case len(r.Ports) == 0, len(r.Ports) > MaxCount, sorted[0] == 0, len(slices.Compact(sorted)) != len(r.Ports):
		field = "ports"
	case !text(r.User):
		field = "user"
	case !text(r.Host):
		field = "host"
	case r.Key != "" && !keyForm.Get().MatchString(r.Key):
		field = "key"
	case r.TTL < MinTTL, r.TTL > maxTTL:
		field = "ttl"
	case len(r.BootID) > maxText:
		field = "boot_id"
	case far(r.Deadline):
		field = "deadline"
	case !wall(r.Expires):
		field = "expires"
	case far(r.Overstayed):
		field = "overstayed"
	case !wall(r.OverstayedWall):
		field = "overstayed_wall"
	default:
		return nil
	}
	return fmt.Errorf("its %q is missing or wrong", field)
}
