package main

import (
	"bytes"
	"cmp"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"text/tabwriter"
	"time"
)

const (
	// watcherStart is how long a watcher may take until it sees a first listener, and watcherEnd until it ends.
	watcherStart = 20 * time.Second
	watcherEnd   = 3 * time.Second
	// longLife outlasts the second between two looks.
	longLife = 2500 * time.Millisecond
)

// watcher is a program that watches listeners.
type watcher struct {
	name string
	args []string
	// look reports whether the program only shows what listens now, so that it has to be run again and again.
	look bool
	// parse returns what a line of its output says, and whether it is of a listener.
	parse func(fields []string) (sighting, bool)
	// problem, where it is not empty, is why it does not work here.
	problem string
}

// sighting is a listener that a watcher saw.
type sighting struct {
	closed     bool // else it opened, or was open
	pid, comm  string
	addr, port string
}

// script is for bpftrace. A clone of a listener, for a connection, goes from LISTEN to SYN_RECV.
const script = `tracepoint:sock:inet_sock_set_state
/ args->newstate == 10 || (args->oldstate == 10 && args->newstate == 7) /
{ printf("%s %d %s %s %d\n", args->newstate == 10 ? "open" : "close", pid, comm, ntop(args->saddr), args->sport); }`

// watchers are those that are known. A program that is not there is left out.
func watchers() (all []*watcher) {
	for _, w := range []*watcher{
		{name: "bpftrace, tracepoint sock:inet_sock_set_state", args: []string{"bpftrace", "-q", "-e", script}, parse: parseScript},
		{name: "tcpstates of libbpf-tools", args: []string{"stdbuf", "-oL", "tcpstates"}, parse: parseStates},
		{name: "solisten of libbpf-tools", args: []string{"stdbuf", "-oL", "solisten"}, parse: parseLast},
		{name: "bindsnoop of libbpf-tools", args: []string{"stdbuf", "-oL", "bindsnoop"}, parse: parseLast},
		{name: "solisten of bcc", args: []string{"solisten-bpfcc"}, parse: parseLast},
		{name: "tcpaccept of bcc", args: []string{"tcpaccept-bpfcc"}, parse: parseNone},
		{name: "tcpaccept.bt of bpftrace", args: []string{"tcpaccept.bt"}, parse: parseNone},
		{name: "ss -Htulnp, each second", args: []string{"ss", "-Htulnp"}, look: true, parse: parseSS},
		{name: "netstat -tulnp, each second", args: []string{"netstat", "-tulnp"}, look: true, parse: parseNetstat},
		{name: "lsof -nP -i, each second", args: []string{"lsof", "-nP", "-i"}, look: true, parse: parseLsof},
	} {
		if _, err := exec.LookPath(w.args[slices.Index(w.args, "-oL")+1]); err == nil { // what stdbuf runs, or the first
			all = append(all, w)
		}
	}
	return all
}

// parseLast reads PID COMM … PORT ADDR.
func parseLast(fields []string) (s sighting, is bool) {
	if len(fields) < 6 {
		return s, false
	}
	_, err := strconv.Atoi(fields[0])
	return sighting{false, fields[0], fields[1], strings.TrimPrefix(fields[len(fields)-1], "::ffff:"), fields[len(fields)-2]}, err == nil
}

func parseNone([]string) (s sighting, is bool) { return s, false }

func parseScript(fields []string) (s sighting, is bool) {
	if len(fields) != 5 {
		return s, false
	}
	return sighting{fields[0] == "close", fields[1], fields[2], fields[3], fields[4]}, true
}

// parseStates reads SKADDR PID COMM LADDR LPORT RADDR RPORT OLDSTATE -> NEWSTATE MS.
func parseStates(fields []string) (s sighting, is bool) {
	if len(fields) != 11 || fields[9] != "LISTEN" && (fields[7] != "LISTEN" || fields[9] != "CLOSE") {
		return s, false
	}
	return sighting{fields[7] == "LISTEN", fields[1], fields[2], fields[3], fields[4]}, true
}

// parseSS reads tcp LISTEN 0 16 127.3.0.1:2000 0.0.0.0:* users:(("storm-0",pid=1,fd=3)).
func parseSS(fields []string) (s sighting, is bool) {
	if len(fields) < 6 {
		return s, false
	}
	s.addr, s.port, is = cutPort(fields[4])
	if len(fields) > 6 {
		parts := strings.FieldsFunc(fields[6], func(r rune) bool { return strings.ContainsRune(`(",)`, r) })
		if len(parts) > 2 {
			s.comm, s.pid = parts[1], strings.TrimPrefix(parts[2], "pid=")
		}
	}
	return s, is
}

// parseNetstat reads tcp 0 0 127.3.0.1:2000 0.0.0.0:* LISTEN 1/storm-0, of UDP without the state.
func parseNetstat(fields []string) (s sighting, is bool) {
	if len(fields) < 6 {
		return s, false
	}
	s.addr, s.port, is = cutPort(fields[3])
	s.pid, s.comm, _ = strings.Cut(fields[len(fields)-1], "/")
	return s, is
}

// parseLsof reads storm-0 1 root 3u IPv4 123 0t0 TCP 127.3.0.1:2000 (LISTEN).
func parseLsof(fields []string) (s sighting, is bool) {
	if len(fields) < 9 {
		return s, false
	}
	s.addr, s.port, is = cutPort(fields[8])
	s.comm, s.pid = fields[0], fields[1]
	return s, is
}

func cutPort(text string) (addr, port string, is bool) {
	at := strings.LastIndexByte(text, ':')
	if at < 0 {
		return "", "", false
	}
	return text[:at], text[at+1:], true
}

// watch runs the program while f runs, and returns what it saw.
func (w *watcher) watch(settled time.Duration, f func() error) ([]sighting, error) {
	if w.look {
		return w.looks(f)
	}
	var stdout, stderr output
	cmd := exec.Command(w.args[0], w.args[1:]...)
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	cmd.WaitDelay = watcherEnd
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	ended := make(chan string, 1)
	go func() { ended <- fmt.Sprint("it ended: ", cmd.Wait()) }()
	for begin := time.Now(); len(w.sightings(stdout.String())) == 0; {
		if err := knock(); err != nil {
			return nil, err
		}
		select {
		case end := <-ended:
			w.problem = cmp.Or(firstProblem(stderr.String()+stdout.String()), end)
			return nil, nil
		case <-time.After(watcherStart / 100):
		}
		if time.Since(begin) > watcherStart {
			w.problem = "it sees nothing"
			break
		}
	}
	err := f()
	time.Sleep(settled)
	_ = cmd.Process.Signal(syscall.SIGINT)
	select {
	case <-ended:
	case <-time.After(watcherEnd):
		_ = cmd.Process.Kill()
		<-ended
	}
	for line := range strings.Lines(stderr.String() + stdout.String()) {
		if strings.Contains(strings.ToLower(line), "lost ") {
			w.problem = strings.TrimSpace(line) // the last of them
		}
	}
	return w.sightings(stdout.String()), err
}

// knock opens a listener and closes it.
func knock() error {
	_, err := lifetimes{}.storm("tcp", netip.AddrFrom4([4]byte{127, 3, 255, 1}), 1, 0, 0, 1)
	return err
}

// output is what a program has written so far.
type output struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String()
}

// looks runs the program each second, at once and at the end as well.
func (w *watcher) looks(f func() error) ([]sighting, error) {
	ended := make(chan error, 1)
	go func() { ended <- f() }()
	var all []sighting
	for {
		begin := time.Now()
		text, _ := exec.Command(w.args[0], w.args[1:]...).Output() // lsof fails where a name is not found
		all = append(all, w.sightings(string(text))...)
		select {
		case err := <-ended:
			return all, err
		case <-time.After(time.Second - time.Since(begin)):
		}
	}
}

func (w *watcher) sightings(text string) (all []sighting) {
	for line := range strings.Lines(text) {
		if s, is := w.parse(strings.Fields(line)); is {
			all = append(all, s)
		}
	}
	return all
}

// firstProblem returns the first line that says why a program failed.
func firstProblem(text string) string {
	lines := strings.Split(text, "\n")
	for _, word := range []string{"failed to", "ERROR: Error", "Unable to", "rror"} {
		if n := slices.IndexFunc(lines, func(line string) bool { return strings.Contains(line, word) && !strings.Contains(line, "RLIMIT") }); n >= 0 {
			return strings.TrimSpace(lines[n])
		}
	}
	return strings.TrimSpace(lines[0])
}

// group is a part of the storm: processes that do the same.
type group struct {
	name      string
	storms    []*storm
	listeners int // of each process
}

// startGroups starts the processes of the storm that peers watch.
func startGroups(s settings) (groups []*group, err error) {
	number := 0
	add := func(name, proto string, flags uintptr, processes, listeners int, open lifetimes) {
		g := &group{name: name, listeners: listeners}
		for range processes {
			one, failed := startStorm(flags, proto, number, open)
			if failed != nil {
				err = cmp.Or(err, failed)
				return
			}
			g.storms = append(g.storms, one)
			number++
		}
		groups = append(groups, g)
	}
	short := lifetimes{shortest, longest}
	each := s.size(stormListeners/stormProcesses, 25)
	add("TCP", "tcp", 0, stormProcesses, each, short)
	add("TCP in another namespace", "tcp", syscall.CLONE_NEWNET, 1, each, short)
	add("UDP", "udp", 0, 1, each, short)
	long := longLife / time.Duration(s.size(1, 2))
	add("TCP, open for "+long.String(), "tcp", 0, s.size(8, 1), 1, lifetimes{long, long})
	return groups, err
}

// blowGroups has all of them open their listeners at once.
func blowGroups(groups []*group) error {
	for _, g := range groups {
		for _, s := range g.storms {
			s.made = 0 // the same listeners for each watcher
			if err := s.begin(g.listeners, 0); err != nil {
				return err
			}
		}
	}
	for _, g := range groups {
		for _, s := range g.storms {
			if _, err := s.end(); err != nil {
				return err
			}
		}
	}
	return nil
}

// seenBy returns how many listeners of the group were seen to open, to close, and with their PID and name when they opened.
func (g *group) seenBy(all []sighting) (opened, closed, named int) {
	for _, s := range g.storms {
		opens, closes, names := make(map[string]bool), make(map[string]bool), make(map[string]bool)
		pid := strconv.Itoa(s.cmd.Process.Pid)
		for _, seen := range all {
			switch {
			case seen.addr != s.address.String():
			case seen.closed:
				closes[seen.port] = true
			default:
				opens[seen.port] = true
				if seen.pid == pid && seen.comm == s.comm {
					names[seen.port] = true
				}
			}
		}
		opened, closed, named = opened+len(opens), closed+len(closes), named+len(names)
	}
	return opened, closed, named
}

// eventsPeers has other programs watch the same storm, one after another.
func eventsPeers(s settings, out io.Writer) error {
	tracing := "/sys/kernel/tracing"
	if _, err := os.Stat(tracing + "/events"); err != nil {
		if err := syscall.Mount("tracefs", tracing, "tracefs", 0, ""); err != nil {
			return fmt.Errorf("mount %s: %w", tracing, err)
		}
	}
	groups, err := startGroups(s)
	if err != nil {
		return err
	}
	defer func() {
		for _, g := range groups {
			endStorms(g.storms)
		}
	}()
	w := tabwriter.NewWriter(out, 0, 0, 1, ' ', 0)
	_, _ = fmt.Fprint(w, "What others see of a storm: listeners seen to open, to close, and with PID and name\n\n| program\t")
	for _, g := range groups {
		_, _ = fmt.Fprintf(w, "| %d × %s\t", len(g.storms)*g.listeners, g.name)
	}
	_, _ = fmt.Fprintf(w, "| problem\t|\n%s| ---\t| ---\t|\n", strings.Repeat("| ---\t", len(groups)))
	row := func(name string, seen func(*group) (opened, closed, named int), problem string) {
		_, _ = fmt.Fprintf(w, "| %s\t", name)
		for _, g := range groups {
			opened, closed, named := seen(g)
			_, _ = fmt.Fprintf(w, "| %d, %d, %d\t", opened, closed, named)
		}
		_, _ = fmt.Fprintf(w, "| %s\t|\n", problem)
	}
	var storms []*storm
	for _, g := range groups {
		storms = append(storms, g.storms...)
	}
	ours, err := watchStorms(storms)
	if err != nil {
		return err
	}
	if err := blowGroups(groups); err != nil {
		return err
	}
	problem := ""
	if err := ours.source.WithoutUDP(); err != nil {
		problem = "; no UDP: " + err.Error()
	}
	_, lost, err := ours.end(s.settled())
	if err != nil {
		return err
	}
	row("listen_exporter, events by "+ours.source.Hooks(), func(g *group) (opened, closed, named int) {
		for _, one := range g.storms {
			of := ours.seen[uint32(one.cmd.Process.Pid)]
			opened, closed, named = opened+of.opened, closed+of.closed, named+of.named
		}
		return opened, closed, named - min(named, closed) // a close has them as well
	}, fmt.Sprintf("%d lost", lost)+problem)
	peers := watchers()
	if s.small { // one that works, one that may not, one that looks
		peers = slices.DeleteFunc(peers, func(w *watcher) bool {
			return w.args[0] != "bpftrace" && w.args[0] != "ss" && !slices.Contains(w.args, "solisten")
		})
	}
	for _, peer := range peers {
		all, err := peer.watch(s.settled(), func() error { return blowGroups(groups) })
		if err != nil {
			return fmt.Errorf("%s: %w", peer.name, err)
		}
		row(peer.name, func(g *group) (opened, closed, named int) { return g.seenBy(all) }, peer.problem)
	}
	_, _ = fmt.Fprintln(w)
	return w.Flush()
}
