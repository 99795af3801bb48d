//go:build linux

package inventory

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/go-kit/log"
	"github.com/go-kit/log/level"

	"github.com/listen-exporter/listen_exporter/internal/guard"
	"github.com/listen-exporter/listen_exporter/internal/holder"
	"github.com/listen-exporter/listen_exporter/internal/registry"
)

// judge compares listeners with the part of the registry that is for this host.
type judge struct {
	options *Options
	logger  log.Logger
	watcher *registry.Watcher
	leases  *leasing // nil unless there are any

	table    *registry.Table // the part of the registry that is for this host
	declared []ServiceInfo   // of the table
	tables   uint64          // how many tables there have been

	version  uint64              // of the listing and the table that the verdicts are for
	input    []registry.Listener // the buffer of all judging
	services []ServiceState      // of the protocols that were read
	reserved []TeamUse
}

func newJudge(o *Options, logger log.Logger) (*judge, error) {
	watcher, err := registry.NewWatcher(o.RegistryFiles, o.RegistryHost, o.LastRegistry)
	if watcher == nil {
		return nil, err
	}
	if err != nil {
		LogEach(logger, BadRegistry, err)
	}
	j := &judge{options: o, logger: logger, watcher: watcher}
	j.adopt()
	return j, nil
}

// adopt takes the table of the current registry and logs it, unless that was done before.
func (j *judge) adopt() {
	current := j.watcher.Current()
	if current == j.table {
		return
	}
	j.table, j.declared = current, current.Services()
	j.tables++
	file := strings.Join(j.options.RegistryFiles, ", ")
	services := j.table.ServiceCount()
	level.Info(j.logger).Log("msg", "comparing listeners with the registry", "file", file, "host", j.options.RegistryHost,
		"services", services, "for_other_hosts", current.CountElsewhere())
	if services == 0 {
		level.Warn(j.logger).Log("msg", "no service of the registry is for this host, so no listener is declared: compare the host's name with hosts in the file, or set --registry.host",
			"file", file, "host", j.options.RegistryHost)
	}
	logElsewhere(j.logger, j.table, j.options.RegistryHost)
}

// begin notes that a look begins, and returns what is declared.
func (j *judge) begin(main *namespace) declaration {
	if j.leases == nil {
		return j.table.Expects
	}
	return j.leases.begin(main, j.table.Expects)
}

// registryInterval is how often WatchRegistry looks at the registry's files. Most are a few KiB.
const registryInterval = time.Second

// LastRegistry returns what the files of the registry had when they were last good, or nil without a registry. It is the same memory
// while none is loaded.
func (i *Inventory) LastRegistry() *LastRegistry {
	if i.judge == nil {
		return nil
	}
	return i.judge.watcher.Good()
}

// WatchRegistry loads the registry whenever its files have changed, until ctx is done. A bad file leaves the registry as it was, and is
// logged once.
func (i *Inventory) WatchRegistry(ctx context.Context) {
	if i.judge == nil {
		return
	}
	panics := troubles{logger: i.judge.logger, last: make(map[string]string)}
	ticker := time.NewTicker(registryInterval)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		var bad error
		panics.report(subjects[CollectorRegistry], guard.Do(func() error { bad = i.judge.watcher.Check(); return nil }))
		if bad != nil && !errors.Is(bad, registry.ErrNoAnswer) { // which the next snapshot logs
			LogEach(i.judge.logger, BadRegistry, bad)
		}
	}
}

// judge adopts a registry that was loaded, and fills in the verdicts on the listeners of the main namespace. input is the version of
// the listing without verdicts; it returns the version of the listing with them.
func (j *judge) judge(input uint64, l *listing, main *namespace) (version uint64, _ *Compliance, _ Read) {
	start := time.Now()
	read := Read{Collector: CollectorRegistry}
	j.adopt()
	if version = input + j.tables + j.leases.changed(); version != j.version {
		j.version = version
		err := j.leases.failed()
		if err == nil {
			err = guard.Do(func() error { j.judgeAll(l, main); return nil })
		}
		if read.Err = err; err != nil {
			l.forgetVerdicts()
			j.tables++ // to judge and to cut again
		}
	}
	if read.Err == nil {
		read.Err = j.watcher.Unanswered()
	}
	good, at := j.watcher.LastReload()
	compliance := &Compliance{Declared: j.declared, Services: j.services, Reserved: j.reserved, Reloaded: good, ReloadedAt: at}
	read.Duration = time.Since(start)
	return version, compliance, read
}

// forgetVerdicts removes the verdicts on all listeners.
func (l *listing) forgetVerdicts() {
	for n := range l.open {
		l.open[n].Verdict, l.open[n].Judged, l.open[n].Lease = Verdict{}, false, nil
	}
}

// judgeAll judges the listeners of the main namespace.
func (j *judge) judgeAll(l *listing, main *namespace) {
	j.services, j.reserved = nil, nil
	own := holder.OwnSockets()
	if j.leases != nil {
		j.leases.index()
	}
	j.input = j.input[:0]
	for n := range l.open {
		listener := &l.open[n]
		if listener.Netns != "" {
			continue
		}
		input := listener.Input()
		input.HoldersUnread = j.options.Holders && !l.attributed
		input.Client = isClient(listener.Proto, listener.Range)
		input.Own = listener.Proto == TCP && slices.Contains(j.options.OwnPorts, listener.Addr.Port()) ||
			slices.ContainsFunc(listener.sockets, func(s holder.Socket) bool { _, is := own[s.Inode]; return is })
		verdict := j.table.Judge(input)
		if j.leases != nil {
			j.leases.judge(listener, &verdict)
		}
		undeclared := verdict.Undecided || verdict.Reason == ReasonUnregistered || verdict.Reason == ReasonReserved
		listener.Client = input.Client && undeclared
		if listener.Judged = !listener.Client && !verdict.Undecided; !listener.Judged {
			verdict = Verdict{}
		}
		listener.Verdict = verdict
		j.input = append(j.input, input)
	}
	read := make(map[string]bool) // protocols
	for _, l := range main.ledgers {
		read[l.proto.String()] = !l.failed
	}
	states := j.table.Up(j.input, main.ledgers[0].source.BindV6Only())
	j.services = slices.DeleteFunc(states, func(s ServiceState) bool { return !read[s.Proto] || s.Undecided })
	if main.whole {
		j.reserved = j.table.Reserved(j.input)
	}
}

// logElsewhere logs which services of the registry are not for this host, and what names it in another form, which would go unnoticed.
func logElsewhere(logger log.Logger, t *registry.Table, host string) {
	if names := t.Elsewhere(); names != "" {
		level.Info(logger).Log("msg", "services of the registry whose hosts do not match this host", "host", host, "services", names)
	}
	if names := t.Misnamed(); names != "" {
		level.Warn(logger).Log("msg", "the registry names this host in another form: hosts must match the whole name; write it so, or set --registry.host",
			"host", host, "entries", names)
	}
}

// BadRegistry is the log message for a registry that cannot be loaded again.
const BadRegistry = "the registry stays as it was: its file is bad"

// maxLogged is how many errors LogEach logs one by one.
const maxLogged = 10

// LogEach logs each of the errors that err joins, such as the faults of a registry, on a line of its own. Of many it logs the first
// ones, and how many more there are.
func LogEach(logger log.Logger, msg string, err error) {
	errs := []error{err}
	var joined interface{ Unwrap() []error }
	if errors.As(err, &joined) {
		errs = joined.Unwrap()
	}
	for i, err := range errs {
		if i == maxLogged {
			level.Error(logger).Log("msg", msg, "err", fmt.Sprintf("and %d more", len(errs)-i))
			return
		}
		level.Error(logger).Log("msg", msg, "err", err)
	}
}
