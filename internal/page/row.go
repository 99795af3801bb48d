package page

import (
	"fmt"
	"strconv"
	"strings"
	"unicode"

	"github.com/listen-exporter/listen_exporter/internal/inventory"
)

// row is a listener, in the words in which it is shown.
type row struct {
	State   state
	Service string
	Purpose string
	Proto   string
	Address string
	// Note says of the address what its digits do not.
	Note    string
	Port    uint16
	Scope   string
	Holders []holding
	// Many tells that there are more holders than are named.
	Many  bool
	Queue queue
	Drops string
	Netns string
	// Rank orders rows: what is wrong comes first.
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
	levelBad  = "bad"  // a violation
	levelWarn = "warn" // a queue that fills
	levelGood = "good"
	levelNone = "none" // nothing to see
)

// state is a verdict.
type state struct {
	Level string
	// Word is the verdict, and Detail what it means.
	Word, Detail string
}

// queue is how full a listener's queue is.
type queue struct {
	Level, Text string
	// Bar is how much of the bar's width is full; HasBar tells that the limit is known.
	Bar    int
	HasBar bool
}

// unknown stands for what is not known, or not there.
const unknown = "–"

// barWidth is the width of a queue's bar, in CSS pixels.
const barWidth = 48

// holding is a holder. Container and Pod are the starts of what ContainerID and PodUID are in full.
type holding struct {
	Process, Unit          string
	Container, ContainerID string
	Pod, PodUID            string
}

// The number of characters that tell one container or pod from another, as the tools for both cut them.
const (
	shortContainer = 12
	shortPod       = 8
)

func newRow(l *inventory.Listener) row {
	r := row{
		State:   stateOf(l),
		Proto:   l.Proto,
		Address: printable(l.Addr.Addr().String()),
		Port:    l.Addr.Port(),
		Scope:   string(l.Scope),
		Many:    l.ManyHolders,
		Queue:   queueOf(l),
		Netns:   "main",
		Drops:   unknown,
		Rank:    rankRest,
	}
	if l.Netns != "" {
		r.Netns = printable(l.Netns)
	}
	if l.Verdict.Reason != inventory.ReasonReserved { // there it is a team
		r.Service, r.Purpose = printable(l.Verdict.Service), printable(l.Verdict.Purpose)
	}
	var notes []string
	if l.Device != "" {
		notes = append(notes, "on "+printable(l.Device))
	}
	if l.Detailed && l.IsIPv6() && !l.IPv6Only && l.Scope == inventory.ScopeAny {
		notes = append(notes, "and IPv4")
	}
	if l.Sockets > 1 {
		notes = append(notes, fmt.Sprintf("%d sockets", l.Sockets))
	}
	if !l.FirstSeen.IsZero() {
		notes = append(notes, "since "+l.FirstSeen.UTC().Format(timeFormat))
	}
	r.Note = strings.Join(notes, ", ")
	for _, h := range l.Holders {
		if text := holdingOf(h); text != (holding{}) {
			r.Holders = append(r.Holders, text)
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
		r.State = state{levelBad, "full queue", r.State.Word + ", but refuses connections"}
	}
	return r
}

func stateOf(l *inventory.Listener) state {
	declared := ""
	if l.Verdict.Declared != "" {
		declared = " (" + printable(l.Verdict.Declared) + ")"
	}
	switch l.Verdict.Reason {
	case "":
		switch {
		case !l.Judged:
			return state{levelNone, "not judged", ""}
		case l.Verdict.Service == "":
			return state{levelGood, "the exporter's own", ""}
		}
		return state{levelGood, "as declared", ""}
	case inventory.ReasonUnregistered:
		return state{levelBad, l.Verdict.Reason, "no service declares the port"}
	case inventory.ReasonReserved:
		return state{levelBad, l.Verdict.Reason, "the port is reserved for " + printable(l.Verdict.Service)}
	case inventory.ReasonBind:
		return state{levelBad, l.Verdict.Reason, "listens wider or elsewhere than declared" + declared}
	case inventory.ReasonProcess:
		return state{levelBad, l.Verdict.Reason, "held by another program than declared" + declared}
	default:
		return state{levelBad, l.Verdict.Reason, ""}
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

// inUnit returns how numbers of bytes are written in the unit that fits the largest of them, and that unit.
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

func holdingOf(h inventory.Holder) holding {
	text := holding{
		Process: printable(h.Process), Unit: printable(h.Unit),
		ContainerID: printable(h.ContainerID), PodUID: printable(h.PodUID),
	}
	text.Container, text.Pod = cut(text.ContainerID, shortContainer), cut(text.PodUID, shortPod)
	return text
}

func cut(text string, characters int) string {
	for i := range text {
		if characters == 0 {
			return text[:i]
		}
		characters--
	}
	return text
}

// printable makes visible what a browser would hide or obey: control characters, and those that turn the direction of the
// text around. A process chooses its name itself.
func printable(text string) string {
	if !strings.ContainsFunc(text, func(r rune) bool { return !unicode.IsPrint(r) }) {
		return text
	}
	var b strings.Builder
	for _, r := range text {
		if unicode.IsPrint(r) {
			b.WriteRune(r)
			continue
		}
		quoted := strconv.QuoteRune(r)
		b.WriteString(quoted[1 : len(quoted)-1])
	}
	return b.String()
}
