//go:build linux

package page

import (
	"strconv"
	"strings"

	"github.com/listen-exporter/listen_exporter/internal/inventory"
	"github.com/listen-exporter/listen_exporter/internal/wording"
)

// row is a listener as it is shown.
type row struct {
	State   state
	Service string
	Purpose string
	Owner   string
	Proto   string
	Address string
	// Note adds to the address: its device, whether it takes IPv4, how many sockets share it, and since when it is open.
	Note    string
	Port    uint16
	Scope   string
	Holders []inventory.Holder
	// Many reports whether there are more holders than these.
	Many  bool
	Queue queue
	Drops string
	Netns string
	// Rank orders rows: problems come first.
	Rank int
}

// The ranks of rows.
const (
	rankViolation = iota
	rankFull
	rankRest
)

// The levels of a row, which are colours too.
const (
	levelBad  = "bad"  // a violation or a full queue
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

// queue is how full a listener's queue is.
type queue struct {
	Level, Text string
	// Bar is how much of the bar's width is filled. HasBar reports whether the limit is known.
	Bar    int
	HasBar bool
}

// barWidth is the width of a queue's bar, in CSS pixels.
const barWidth = 48

func newRow(l *inventory.Listener) row {
	r := row{
		State:   stateOf(l),
		Proto:   l.Proto,
		Address: wording.Printable(l.Addr.Addr().String()),
		Port:    l.Addr.Port(),
		Scope:   string(l.Scope),
		Many:    l.ManyHolders,
		Queue:   queueOf(l),
		Netns:   "main",
		Drops:   "–", // not known
		Rank:    rankRest,
	}
	if l.Netns != "" {
		r.Netns = wording.Printable(l.Netns)
	}
	if l.Verdict.Reason != inventory.ReasonReserved { // whose Service is a team
		r.Service, r.Purpose, r.Owner = wording.Printable(l.Verdict.Service), wording.Printable(l.Verdict.Purpose), wording.Printable(l.Verdict.Owner)
	}
	var notes []string
	if l.Device != "" {
		notes = append(notes, "on "+wording.Printable(l.Device))
	}
	if l.Detailed && l.IsIPv6() && !l.IPv6Only && l.Scope == inventory.ScopeAny {
		notes = append(notes, "also IPv4")
	}
	if l.Sockets > 1 {
		notes = append(notes, wording.Count(l.Sockets, "socket"))
	}
	if !l.FirstSeen.IsZero() {
		notes = append(notes, "since "+l.FirstSeen.UTC().Format(timeFormat))
	}
	r.Note = strings.Join(notes, ", ")
	for _, h := range l.Holders {
		shown := inventory.Holder{
			Process: wording.Printable(h.Process), Unit: wording.Printable(h.Unit),
			ContainerID: wording.Printable(h.ContainerID), PodUID: wording.Printable(h.PodUID),
		}
		if shown != (inventory.Holder{}) {
			r.Holders = append(r.Holders, shown)
		}
	}
	if l.Proto == inventory.UDP || l.Detailed {
		r.Drops = strconv.FormatUint(l.Drops, 10)
	}
	switch {
	case r.State.Level == levelBad:
		r.Rank = rankViolation
	case r.Queue.Level == levelBad:
		r.Rank = rankFull
		r.State = state{levelBad, "full queue", r.State.Word + ", but drops new connections"}
	}
	return r
}

func stateOf(l *inventory.Listener) state {
	switch word := l.State(); word {
	case "":
		return state{levelNone, "not judged", ""}
	case inventory.StateClient:
		return state{levelNone, word, ""}
	case inventory.StateOK:
		return state{levelGood, "as declared", ""}
	default:
		return state{levelBad, word, wording.Violation(word, l.Verdict.Service, l.Verdict.Declared)}
	}
}

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
	q := queue{Text: write(length) + " / " + write(limit) + after, HasBar: true}
	if limit > 0 {
		q.Bar = int(min(1, float64(length)/float64(limit)) * barWidth)
	}
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
