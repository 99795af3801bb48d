package inventory

import (
	"errors"
	"slices"
	"time"

	"github.com/go-kit/log"
	"github.com/go-kit/log/level"

	"github.com/listen-exporter/listen_exporter/internal/holder"
	"github.com/listen-exporter/listen_exporter/internal/registry"
	"github.com/listen-exporter/listen_exporter/internal/socket"
)

// judge is the registry, as this host sees it.
type judge struct {
	watcher *registry.Watcher
	host    string
	bad     bool               // the file was, at the last look
	of      *registry.Registry // for which table was made
	table   *registry.Table
	states  []ServiceState      // as table said last
	input   []registry.Listener // the buffer of all judging
	took    time.Duration       // so far, for the snapshot that is being made
}

func newJudge(file, host string) (*judge, error) {
	watcher, err := registry.NewWatcher(file)
	if err != nil {
		return nil, err
	}
	j := &judge{watcher: watcher, host: host}
	j.take()
	return j, nil
}

// take makes the table of the present registry, and tells whether it is another one.
func (j *judge) take() bool {
	if current := j.watcher.Current(); current != j.of {
		j.of, j.table, j.states = current, current.For(j.host), nil
		return true
	}
	return false
}

// announce logs by what the host is judged from now on.
func (j *judge) announce(logger log.Logger) {
	services := j.table.ServiceCount()
	level.Info(logger).Log("msg", "judging by a registry", "file", j.of.File(), "host", j.host, "services", services, "for_other_hosts", j.of.ServiceCount()-services)
	if services == 0 {
		level.Warn(logger).Log("msg", "no service of the registry is for this host, so that nothing that listens is declared: compare the name of the host with hosts in the file, or set --registry.host", "file", j.of.File(), "host", j.host)
	}
}

// refresh looks whether the registry's file has changed, and tells whether it is to be judged anew.
func (i *Inventory) refresh(snapshot *Snapshot) (changed bool) {
	start := time.Now()
	_, err := i.judge.watcher.Check(start)
	if err != nil { // which is told once
		LogEach(i.logger, BadRegistry, err)
	}
	ok, at := i.judge.watcher.LastReload()
	changed = i.judge.take()
	if !changed && ok && i.judge.bad {
		level.Info(i.logger).Log("msg", "the registry's file is good again, and says the same as before", "file", i.judge.of.File())
	}
	i.judge.bad = !ok
	if changed {
		i.judge.announce(i.logger)
	}
	snapshot.Compliance = &Compliance{Reloaded: ok, ReloadedAt: at}
	i.judge.took = time.Since(start)
	return changed
}

// BadRegistry says that the registry could not be read again.
const BadRegistry = "the registry stays as it was: its file is bad"

// LogEach logs what went wrong: each of the errors that err joins on a line of its own, such as the faults of a registry.
func LogEach(logger log.Logger, msg string, err error) {
	errs := []error{err}
	var joined interface{ Unwrap() []error }
	if errors.As(err, &joined) {
		errs = joined.Unwrap()
	}
	for _, err := range errs {
		level.Error(logger).Log("msg", msg, "err", err)
	}
}

// ReloadRegistry reads the registry's file again. A bad one leaves the registry as it was.
func (i *Inventory) ReloadRegistry() error {
	if i.judge == nil {
		return nil
	}
	return i.judge.watcher.Reload()
}

// judgeAll judges the listeners of the main network namespace.
func (i *Inventory) judgeAll(snapshot *Snapshot) {
	j, start := i.judge, time.Now()
	defer func() { j.took += time.Since(start) }()
	own := holder.OwnSockets()
	j.input = j.input[:0]
	first := 0
	for n := range i.all {
		l, end := &i.all[n], i.heldEnds[n]
		sockets := i.held[first:end]
		first = end
		if l.Netns != "" {
			continue
		}
		input := l.Input()
		input.Own = isOwn(sockets, own)
		l.Verdict, l.Judged = j.table.Judge(input), true
		j.input = append(j.input, input)
	}
	// Nothing is said of what is not read.
	unread := map[string]bool{TCP: !i.options.TCP, UDP: !i.options.UDP}
	failed := false
	for _, l := range i.main.ledgers {
		if l.failed {
			unread[l.proto.String()], failed = true, true
		}
	}
	j.states = j.table.Up(j.input, socket.BindV6Only(i.options.Procfs), j.states)
	snapshot.Compliance.Services = j.states
	if unread[TCP] || unread[UDP] {
		snapshot.Compliance.Services = slices.DeleteFunc(slices.Clone(j.states), func(s ServiceState) bool { return unread[s.Proto] })
	}
	if !failed {
		snapshot.Compliance.Reserved = j.table.Reserved(j.input)
	}
}

// Input returns what a registry is told of the listener.
func (l *Listener) Input() registry.Listener {
	input := registry.Listener{Proto: l.Proto, Addr: l.Addr, HoldersKnown: l.Exact}
	if l.Detailed {
		input.IPv6Only = registry.No
		if l.IPv6Only {
			input.IPv6Only = registry.Yes
		}
	}
	for _, h := range l.holders {
		input.Holders = append(input.Holders, registry.Holder{Process: h.Process, Unit: h.Unit})
	}
	return input
}

// isOwn tells whether one of the sockets is among the exporter's own, which are told by their inodes.
func isOwn(sockets []holder.Socket, own map[uint64]struct{}) bool {
	return slices.ContainsFunc(sockets, func(s holder.Socket) bool { _, is := own[s.Inode]; return is && s.Inode != 0 })
}
