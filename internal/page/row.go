//go:build linux

package page

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/listen-exporter/listen_exporter/internal/inventory"
	"github.com/listen-exporter/listen_exporter/internal/wording"
)

// row is a row of the table: a listener, or several that are shown as one.
type row struct {
	State   state
	Service string
	Purpose string
	Owner   string
	// Port is a port, or a range of ports.
	Port, Proto string
	Address     string
	// Note adds to the address: its device, whether it takes IPv4, and how many sockets or ports share the row.
	Note    string
	Scope   string
	Holders []holder
	// Many reports whether there are more holders than these.
	Many bool
	// Guessed reports whether the holders are not known for certain.
	Guessed bool
	// Since is since when it is open, or zero if it was open before the exporter started.
	Since time.Time
	Queue queue
	Drops string
	// Dropping is for how long packets have been lost, or empty if none are.
	Dropping string
	Netns    string
	// Rank orders rows: problems come first.
	Rank int
	// Parts are the rows that this one stands for, if it is a range of ports.
	Parts []row

	listeners []*inventory.Listener
	first     uint16 // port
	reach     int    // of its scope: the nearest is the largest
	dropped   uint64
	netns     string
}

// Count returns how many listeners the row is.
func (r *row) Count() (n int) {
	if len(r.Parts) == 0 {
		return len(r.listeners)
	}
	for i := range r.Parts {
		n += r.Parts[i].Count()
	}
	return n
}

func (r *row) addr() netip.Addr { return r.listeners[0].Addr.Addr() }

// The ranks of rows. That of a violation is how far it reaches, from 0.
const (
	rankFull = 100 + iota
	rankRest
)

// The levels of a row and of what it shows.
const (
	levelBad  = "bad"  // a violation, a full queue, or lost packets
	levelWarn = "warn" // a queue that fills
	levelGood = "good"
	levelNone = "none" // nothing to see
)

// state is a verdict.
type state struct {
	Level string
	// Word is the verdict, and Detail explains it.
	Word, Detail string
}

// holder is a holder as it is shown.
type holder struct {
	Process, Unit, ContainerID, PodUID string
	// Detail has the PIDs and the user.
	Detail string
}

// rows makes rows of listeners.
type rows struct {
	processes map[inventory.Key][]inventory.Process
	users     inventory.UserNames
	judged    bool // there is a registry
	made      time.Time
}

// of returns the row of listeners, which differ by no more than their addresses.
func (m *rows) of(listeners ...*inventory.Listener) row {
	l := listeners[0]
	r := row{
		State:     m.state(l),
		Port:      strconv.Itoa(int(l.Addr.Port())),
		Proto:     l.Proto,
		Scope:     string(l.Scope),
		Holders:   m.holders(listeners),
		Many:      l.ManyHolders,
		Guessed:   !l.Exact,
		Since:     l.FirstSeen,
		Drops:     notKnown,
		Netns:     "main",
		Rank:      rankRest,
		listeners: listeners, first: l.Addr.Port(), reach: slices.Index(reaches, l.Scope), netns: l.Netns,
	}
	if l.Netns != "" {
		r.Netns = wording.Printable(l.Netns)
	}
	if l.Verdict.Reason != inventory.ReasonReserved { // whose Service is a team
		r.Service, r.Purpose, r.Owner = wording.Printable(l.Verdict.Service), wording.Printable(l.Verdict.Purpose), wording.Printable(l.Verdict.Owner)
	}
	var addresses []string
	sockets := 0
	for _, l := range listeners {
		addresses = append(addresses, wording.Printable(l.Addr.Addr().String()))
		sockets += l.Sockets
		if q := queueOf(l); q.filled >= r.Queue.filled {
			r.Queue = q
		}
		r.dropped += l.Drops
		if starts := l.Starts; starts != nil && !starts.Dropping.IsZero() {
			r.Dropping = "for " + span(m.made.Sub(starts.Dropping))
		}
	}
	r.Address = strings.Join(addresses, ", ")
	if l.Proto == inventory.UDP || l.Detailed {
		r.Drops = strconv.FormatUint(r.dropped, 10)
	}
	var notes []string
	if l.Device != "" {
		notes = append(notes, "on "+wording.Printable(l.Device))
	}
	if len(listeners) == 1 && l.Detailed && l.IsIPv6() && !l.IPv6Only && l.Scope == inventory.ScopeAny {
		notes = append(notes, "also IPv4")
	}
	if sockets > len(listeners) {
		notes = append(notes, wording.Count(sockets, "socket"))
	}
	r.Note = strings.Join(notes, ", ")
	switch {
	case r.State.Level == levelBad:
		r.Rank = r.reach
	case r.Queue.Level == levelBad:
		r.Rank = rankFull
		r.State = state{levelBad, "full queue", r.State.Word + ", but drops new connections"}
		if starts := l.Starts; starts != nil && !starts.Full.IsZero() {
			r.State.Detail += " for " + span(m.made.Sub(starts.Full))
		}
	}
	return r
}

func (m *rows) state(l *inventory.Listener) state {
	switch word := l.State(); {
	case word == "" && m.judged && l.Netns != "":
		return state{levelNone, "not judged", "in another namespace"}
	case word == "":
		return state{levelNone, "not judged", ""}
	case word == inventory.StateClient:
		return state{levelNone, word, "most often a client"}
	case word == inventory.StateOK:
		return state{levelGood, "as declared", ""}
	case word == inventory.StateLeased:
		return state{levelGood, word, "by " + wording.Printable(leasedBy(l))}
	default:
		s := state{levelBad, word, wording.Violation(word, l.Verdict.Service, l.Verdict.Declared)}
		if starts := l.Starts; starts != nil && !starts.Violation.IsZero() {
			s.Detail += ", for " + span(m.made.Sub(starts.Violation))
		}
		return s
	}
}

// holders returns the holders of listeners that have the same.
func (m *rows) holders(listeners []*inventory.Listener) (list []holder) {
	for _, h := range listeners[0].Holders {
		shown := holder{
			Process: wording.Printable(h.Process), Unit: wording.Printable(h.Unit),
			ContainerID: wording.Printable(h.ContainerID), PodUID: wording.Printable(h.PodUID),
		}
		if shown == (holder{}) {
			continue
		}
		var pids []int
		for _, l := range listeners {
			for _, p := range m.processes[l.Key] {
				if p.Called(h) {
					pids = append(pids, p.PID)
				}
			}
		}
		var details []string
		if len(pids) > 0 {
			details = append(details, pidsText(pids))
		}
		if name := m.users.Of(h); name != "" {
			details = append(details, "user "+wording.Printable(name))
		}
		shown.Detail = strings.Join(details, ", ")
		list = append(list, shown)
	}
	return list
}

// pidsText returns PIDs as a text.
func pidsText(pids []int) string {
	const most = 4
	slices.Sort(pids)
	pids = slices.Compact(pids)
	var texts []string
	for _, pid := range pids[:min(len(pids), most)] {
		texts = append(texts, strconv.Itoa(pid))
	}
	text := wording.Plural(len(pids), "PID") + " " + strings.Join(texts, ", ")
	if more := len(pids) - most; more > 0 {
		text += fmt.Sprintf(" and %d more", more)
	}
	return text
}

// span returns a length of time in one unit.
func span(d time.Duration) string {
	const day = 24 * time.Hour
	for _, unit := range []struct {
		length time.Duration
		name   string
	}{{day, "day"}, {time.Hour, "hour"}, {time.Minute, "minute"}} {
		if n := int(d / unit.length); n > 0 {
			return wording.Count(n, unit.name)
		}
	}
	return wording.Count(max(0, int(d/time.Second)), "second")
}

// queue is how full a listener's queue is.
type queue struct {
	Level, Text string
	// Bar is how much of the bar's width is filled, or 0 without a bar.
	Bar    int
	filled float64 // how much of the limit
	known  bool    // the limit is
}

// barWidth is the width of a queue's bar, in CSS pixels.
const barWidth = 64

func queueOf(l *inventory.Listener) queue {
	length, limit := l.AcceptQueueLength, l.AcceptQueueLimit
	write := func(n uint64) string { return strconv.FormatUint(n, 10) }
	after := ""
	if l.Proto == inventory.UDP {
		length, limit = l.ReceiveQueueBytes, l.ReceiveBufferLimitBytes
		write, after = inUnit(max(length, limit))
	}
	if !l.Detailed {
		return queue{Text: write(length) + after}
	}
	q := queue{Text: write(length) + " / " + write(limit) + after, known: true}
	q.filled = float64(length) / float64(max(limit, 1))
	q.Bar = int(min(1, q.filled) * barWidth)
	switch {
	case l.Full():
		q.Level, q.Bar, q.Text = levelBad, barWidth, q.Text+" full"
	case limit > 0 && length > limit/2:
		q.Level = levelWarn
	case length == 0:
		q.Level = levelNone
	}
	if length > 0 {
		q.Bar = max(1, q.Bar)
	}
	return q
}

// inUnit returns the unit that fits a number of bytes, and a function that writes numbers in it.
func inUnit(largest uint64) (write func(n uint64) string, unit string) {
	const step = 1024
	size := uint64(1)
	units := []string{" B", " KiB", " MiB", " GiB"}
	for largest/size >= step && len(units) > 1 {
		size, units = size*step, units[1:]
	}
	return func(n uint64) string {
		return strings.TrimSuffix(strconv.FormatFloat(float64(n)/float64(size), 'f', 1, 64), ".0")
	}, units[0]
}
