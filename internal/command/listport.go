//go:build linux

package command

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/listen-exporter/listen_exporter/internal/inventory"
	"github.com/listen-exporter/listen_exporter/internal/wording"
)

// usualRegistry is where the registry of a host lies, unless a flag or the state file says otherwise.
const usualRegistry = "/etc/listen_exporter/ports.yml"

// listPorts writes who listens on some ports, and what is remembered of them. It reports whether something listens on all of them, and
// returns what could not be found out.
func listPorts(o ListOptions, out *bytes.Buffer, screen screen, s Streams) (all bool, clauses []string, err error) {
	switch o.Format {
	case FormatRegistry:
		return false, nil, errors.New("--format=registry declares every listener: leave out the ports")
	case FormatPrometheus:
		return false, nil, errors.New("--format=prometheus writes what a scrape would: leave out the ports, or use --collector.port-include")
	}
	usual := len(o.Inventory.RegistryFiles) == 0
	state := o.State()
	source := o.adoptRegistry(state)
	snapshot, err := read(o.Inventory, s.Logger)
	if err != nil && usual && len(o.Inventory.RegistryFiles) > 0 {
		s.report(err)
		err = errors.New("the registry could not be read: whether the listeners are as declared is not known")
		o.Inventory.RegistryFiles, source = nil, ""
		var failed error
		snapshot, failed = read(o.Inventory, s.Logger)
		err = errors.Join(failed, err)
	}
	if snapshot == nil {
		return false, nil, err
	}
	a, wrong := answerTo(o.Ports, snapshot, state, o.Inventory.RegistryHost)
	if wrong != nil {
		return false, nil, errors.Join(err, wrong)
	}
	a.registry = source
	if wrong := o.Only.refused(o.Inventory, snapshot); wrong != nil {
		return false, nil, errors.Join(err, wrong)
	}
	clauses = unknown(o.Inventory, snapshot, details)
	a.filter(o.Only)
	if state.Err != nil {
		clauses = append(clauses, "what is remembered is not known: "+state.Err.Error())
	}
	err = errors.Join(err, incomplete(snapshot), o.Only.unsure(o.Inventory, snapshot))
	all = !slices.ContainsFunc(a.queries, func(q query) bool { return !a.isOpen(q) })
	if o.Format == FormatJSON {
		shown := *snapshot
		shown.Listeners = a.shown
		if s := snapshot.Leases; s != nil {
			of := *s
			of.Leases, shown.Leases = a.leased(), &of
		}
		return all, nil, errors.Join(err, writeJSON(out, o.Inventory, &shown, clauses, a.json(), a.now))
	}
	a.write(out, screen, o.Inventory.Netns == "all")
	return all, clauses, err
}

// adoptRegistry chooses the registry if no flag does: the one of the exporter or, if its state is not known, the usual one. It returns
// what there is to say of the registry.
func (o *ListOptions) adoptRegistry(state State) (source string) {
	_, missing := os.Stat(usualRegistry)
	switch good := state.Registry; {
	case len(o.Inventory.RegistryFiles) > 0:
		source = " (--registry.file)"
	case good != nil:
		o.Inventory.RegistryFiles, o.Inventory.LastRegistry = good.Paths, good
		if !o.HostGiven {
			o.Inventory.RegistryHost = cmp.Or(state.Host, o.Inventory.RegistryHost)
		}
		source = " (the exporter's)"
	case state.Memory != nil:
		return "none (the exporter has none)"
	case missing != nil:
		return ""
	default:
		o.Inventory.RegistryFiles, source = []string{usualRegistry}, " (not known to be the exporter's)"
	}
	return wording.Printable(strings.Join(o.Inventory.RegistryFiles, ", ")) + source
}

// answer is what list writes of some ports.
type answer struct {
	snapshot *inventory.Snapshot // of the listeners that are asked for
	state    State
	registry string
	queries  []query
	only     Filter
	shown    []inventory.Listener     // those of the snapshot that the filter admits
	missing  []inventory.ServiceState // of the services that are asked for
	now      time.Time
	units    []string // to look at next
}

// answerTo returns the answer for some ports, of a snapshot that it may change.
func answerTo(asked []string, s *inventory.Snapshot, state State, host string) (*answer, error) {
	a := &answer{snapshot: s, state: state, now: s.Time}
	for _, text := range asked {
		q, err := parseQuery(text, s, host)
		if err != nil {
			return nil, err
		}
		a.queries = append(a.queries, q)
	}
	a.missing = slices.DeleteFunc(s.Missing(), func(m inventory.ServiceState) bool {
		return !slices.ContainsFunc(a.queries, func(q query) bool { return q.hasService(m.Name, m.Proto, m.Ports) })
	})
	s.Listeners = slices.DeleteFunc(slices.Clone(s.Listeners), func(l inventory.Listener) bool {
		return !slices.ContainsFunc(a.queries, func(q query) bool { return q.hasListener(&l) })
	})
	if state.Memory != nil {
		a.recall()
	}
	a.shown = s.Listeners
	return a, nil
}

// filter shows only some of the listeners. What is remembered is still compared with all of them.
func (a *answer) filter(only Filter) {
	a.only, a.shown = only, only.listeners(a.snapshot.Listeners)
}

// isOpen reports whether a listener is shown that a query asks for.
func (a *answer) isOpen(q query) bool {
	return slices.ContainsFunc(a.shown, func(l inventory.Listener) bool { return q.hasListener(&l) })
}

// write writes the answer as a table and sentences.
func (a *answer) write(out *bytes.Buffer, screen screen, netns bool) {
	all := a.only.of(entriesOf(a.snapshot, a.missing))
	if len(all) > 0 {
		a.table(all, netns).write(out, screen)
		out.WriteByte('\n')
	}
	for _, q := range a.queries {
		if !a.isOpen(q) {
			fmt.Fprintf(out, "nothing%s listens on %s\n", a.only.clause(), wording.Printable(q.text))
		}
	}
	for i := range a.shown {
		l := &a.shown[i]
		for _, text := range a.troubles(l) {
			fmt.Fprintf(out, "%s %s: %s\n", l.Proto, addressAndPort(l), text)
		}
		for _, h := range l.Holders {
			if h.ContainerID == "" && h.PodUID == "" {
				a.next(h.Unit)
			}
		}
	}
	for _, line := range slices.Concat(a.leases(), a.remembered()) {
		fmt.Fprintln(out, line)
	}
	if len(a.units) > 0 {
		fmt.Fprintf(out, "next: systemctl status %s\n", strings.Join(a.units, " "))
	}
	fmt.Fprintf(out, "registry: %s\n", cmp.Or(a.registry, "none (want --registry.file)"))
	if a.state.Memory != nil {
		fmt.Fprintf(out, "state file: %s, last changed %s\n", wording.Printable(a.state.File), a.when(a.state.Written))
	}
}

// table returns the table of list with further columns. A listener with several holders has several lines.
func (a *answer) table(all []entry, netns bool) table {
	columns := []string{"PID", "USER", "AGE"}
	if netns {
		columns = append(columns, "NETNS")
	}
	t := table{shrinkable: []int{holderColumn, serviceColumn}, lines: [][]cell{header(columns...)}}
	for _, e := range all {
		for _, h := range e.holders() {
			line := append(e.cells(), h.cells()...)
			line[holderColumn].text = h.text
			age := ""
			if e.listener != nil && !e.listener.FirstSeen.IsZero() {
				age = ageOf(a.now.Sub(e.listener.FirstSeen))
			}
			line = append(line, cell{text: age, right: true})
			if netns {
				line = append(line, cell{text: wording.Printable(e.netns)})
			}
			t.add(line)
		}
	}
	return t
}

// holderLine is what the table says of a holder.
type holderLine struct {
	text string
	pids []int
	user string
}

// holders returns the holders of an entry, or an empty one.
func (e entry) holders() (lines []holderLine) {
	if e.listener == nil {
		return make([]holderLine, 1)
	}
	for _, h := range e.listener.Holders {
		lines = append(lines, holderLine{holderOf(h), e.pidsOf(h), e.users.Of(h)})
	}
	if e.listener.ManyHolders {
		lines = append(lines, holderLine{text: manyHolders})
	}
	if lines == nil {
		return make([]holderLine, 1)
	}
	return lines
}

// ofAllHolders returns the PIDs and users of all holders.
func (e entry) ofAllHolders() (all holderLine) {
	var users []string
	for _, h := range e.holders() {
		all.pids = append(all.pids, h.pids...)
		if h.user != "" && !slices.Contains(users, h.user) {
			users = append(users, h.user)
		}
	}
	slices.Sort(all.pids)
	all.pids, all.user = slices.Compact(all.pids), strings.Join(users, ",")
	return all
}

func (h holderLine) cells() []cell {
	const most = 4
	var pids []string
	for _, pid := range h.pids[:min(len(h.pids), most)] {
		pids = append(pids, strconv.Itoa(pid))
	}
	if more := len(h.pids) - most; more > 0 {
		pids = append(pids, fmt.Sprintf("+%d", more))
	}
	return []cell{{text: strings.Join(pids, ","), right: true}, {text: wording.Printable(h.user)}}
}

// pidsOf returns the PIDs of the entry's processes that one of its holders stands for.
func (e entry) pidsOf(h inventory.Holder) (pids []int) {
	for _, p := range e.processes {
		if p.Called(h) {
			pids = append(pids, p.PID)
		}
	}
	return pids
}

// next notes a unit to look at.
func (a *answer) next(unit string) {
	const most = 3
	unit, _, _ = strings.Cut(unit, "/") // the unit of a user's manager has the user's units
	const safe = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789:_.@-"
	switch {
	case unit == "", strings.HasPrefix(unit, "-"), strings.ContainsAny(unit, "'"), unit != wording.Printable(unit):
		return
	case strings.Trim(unit, safe) != "":
		unit = "'" + unit + "'"
	}
	if len(a.units) < most && !slices.Contains(a.units, unit) {
		a.units = append(a.units, unit)
	}
}

// when returns a moment as people read it, and how long ago it was.
func (a *answer) when(t time.Time) string {
	return a.clock(t) + " (" + ageOf(a.now.Sub(t)) + " ago)"
}

func (a *answer) clock(t time.Time) string {
	return t.In(a.now.Location()).Format("2006-01-02 15:04:05 MST")
}

// ageOf returns a duration in one unit, such as "47m".
func ageOf(d time.Duration) string {
	day := 24 * time.Hour
	for _, unit := range []struct {
		name   string
		length time.Duration
	}{{"d", day}, {"h", time.Hour}, {"m", time.Minute}} {
		if d >= 2*unit.length {
			return fmt.Sprintf("%d%s", d/unit.length, unit.name)
		}
	}
	return fmt.Sprintf("%ds", max(d, 0)/time.Second)
}
