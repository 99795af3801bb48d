package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// The server of events-cost and its clients, and what events may cost it.
const (
	costServers   = 2
	costClients   = 2
	costBatch     = 16 // connections that a client has open at once
	costListener  = "127.4.0.1:1998"
	costLimit     = 1.01 // of the time that a connection takes
	costSettle    = time.Second
	costRate      = 50_000
	costAcceptLen = 4096
)

// beServer accepts connections and closes them, one of several processes that share a port.
func beServer(address, number string) error {
	at, err := netip.ParseAddrPort(address)
	if err != nil {
		return err
	}
	if err := os.WriteFile("/proc/self/comm", []byte("server-"+number), 0); err != nil {
		return err
	}
	listener, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return err
	}
	epoll, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return err
	}
	if err := errors.Join(
		unix.SetsockoptInt(listener, unix.SOL_SOCKET, unix.SO_REUSEPORT, 1),
		unix.Bind(listener, &unix.SockaddrInet4{Addr: at.Addr().As4(), Port: int(at.Port())}),
		unix.Listen(listener, costAcceptLen),
		unix.EpollCtl(epoll, unix.EPOLL_CTL_ADD, listener, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(listener)}),
	); err != nil {
		return err
	}
	fmt.Println("ready")
	events := make([]unix.EpollEvent, 1)
	for {
		if _, err := unix.EpollWait(epoll, events, -1); err != nil && !errors.Is(err, unix.EINTR) {
			return err
		}
		for {
			fd, _, err := unix.Accept4(listener, unix.SOCK_CLOEXEC)
			if err != nil {
				break // none waits
			}
			if err := unix.Close(fd); err != nil {
				return err
			}
		}
	}
}

// beClient connects to a server for as long as each line of stdin says, and answers with how often it did. It waits until the
// server has closed, and then resets, so that no port is left in TIME_WAIT.
func beClient(address string) error {
	at, err := netip.ParseAddrPort(address)
	if err != nil {
		return err
	}
	server := &unix.SockaddrInet4{Addr: at.Addr().As4(), Port: int(at.Port())}
	for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
		length, err := time.ParseDuration(lines.Text())
		if err != nil {
			return err
		}
		count := 0
		for begin := time.Now(); time.Since(begin) < length; count += costBatch {
			if err := connectBatch(server); err != nil {
				return err
			}
		}
		fmt.Println(count)
	}
	return nil
}

func connectBatch(server *unix.SockaddrInet4) error {
	var open [costBatch]int
	for n := range open {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return err
		}
		if err := unix.Connect(fd, server); err != nil {
			return fmt.Errorf("connect: %w", err)
		}
		open[n] = fd
	}
	var nothing [1]byte
	for _, fd := range open {
		if _, err := unix.Read(fd, nothing[:]); err != nil {
			return fmt.Errorf("wait for the server: %w", err)
		}
		if err := errors.Join(
			unix.SetsockoptLinger(fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1}),
			unix.Close(fd),
		); err != nil {
			return err
		}
	}
	return nil
}

// startServer starts the server's processes and its clients.
func startServer() (clients []*helper, err error) {
	for n := range costServers {
		one, err := startHelper(0, "accept", costListener, strconv.Itoa(n))
		if err != nil {
			return nil, err
		}
		if _, err := one.stdout.ReadString('\n'); err != nil {
			return nil, fmt.Errorf("a server ended: %w", err)
		}
	}
	for range costClients {
		one, err := startHelper(0, "connect", costListener)
		if err != nil {
			return nil, err
		}
		clients = append(clients, one)
	}
	return clients, nil
}

// connectFor has the clients connect for so long, and returns how often they did.
func connectFor(clients []*helper, length time.Duration) (count int, err error) {
	for _, c := range clients {
		if _, err := fmt.Fprintln(c.stdin, length); err != nil {
			return 0, err
		}
	}
	for _, c := range clients {
		line, err := c.stdout.ReadString('\n')
		if err != nil {
			return 0, fmt.Errorf("a client ended: %w", err)
		}
		one, err := strconv.Atoi(strings.TrimSpace(line))
		if err != nil {
			return 0, err
		}
		count += one
	}
	return count, nil
}

// eventsCost compares the server's throughput with events on and off, in turns: off on, on off.
func eventsCost(s settings, out io.Writer) error {
	clients, err := startServer()
	if err != nil {
		return err
	}
	length := 4 * time.Second
	if s.small {
		length = 500 * time.Millisecond
	}
	modes := []string{"off", "on"}
	samples := map[string][]time.Duration{}
	var pairs, rates []float64
	for n := range max(s.size(2*s.rounds, 1), s.size(10, 1)) {
		took := map[string]time.Duration{}
		for m := range modes {
			mode := modes[(n+m)%2]
			count, err := costRun(s, clients, mode, length)
			if err != nil {
				return err
			}
			took[mode] = length / time.Duration(count)
			samples[mode] = append(samples[mode], took[mode])
			rates = append(rates, float64(count)/length.Seconds())
		}
		pairs = append(pairs, float64(took["on"])/float64(took["off"]))
	}
	slices.Sort(pairs)
	slices.Sort(rates)
	var results []result
	for _, mode := range modes {
		slices.Sort(samples[mode])
		results = append(results, result{"--collector.events=" + mode, samples[mode]})
	}
	missed := report(out, fmt.Sprintf("Time that a connection takes of a server with %d processes and %d clients, %s a run", costServers, costClients, length),
		results, ratio{of: results[1], to: results[0], want: costLimit})
	_, _ = fmt.Fprintf(out, "connections a second: median %.0f, lowest %.0f, highest %.0f; want %d\n", median(rates), rates[0], rates[len(rates)-1], costRate)
	_, _ = fmt.Fprintf(out, "on / off of each pair: median %.4f, quartiles %.4f and %.4f\n\n", median(pairs), pairs[len(pairs)/4], pairs[len(pairs)*3/4])
	return errors.Join(missed, programCost(s, out, clients, length))
}

// costRun starts an exporter and has the clients connect. With events on, each connection must be counted.
func costRun(s settings, clients []*helper, mode string, length time.Duration) (int, error) {
	e, err := startEvents(s, mode)
	if err != nil {
		return 0, err
	}
	defer e.stop()
	time.Sleep(costSettle / time.Duration(s.size(1, 5)))
	count, err := connectFor(clients, length)
	if err != nil {
		return 0, err
	}
	if mode != "on" {
		return count, nil
	}
	p, err := e.page()
	if err != nil {
		return 0, err
	}
	if counted := p.connections(costListener); counted != float64(count) {
		return 0, fmt.Errorf("%.0f connections are counted, want %d", counted, count)
	}
	return count, nil
}

// connections returns how many are counted at a listener of TCP and IPv4.
func (p page) connections(address string) float64 {
	at := netip.MustParseAddrPort(address)
	for line := range strings.Lines(string(p)) {
		if strings.HasPrefix(line, "host_listen_port_connections_total{") && strings.Contains(line, `address="`+at.Addr().String()+`"`) &&
			strings.Contains(line, fmt.Sprintf(`port="%d"`, at.Port())) {
			value, err := strconv.ParseFloat(line[strings.LastIndexByte(line, ' ')+1:len(line)-1], 64)
			if err == nil {
				return value
			}
		}
	}
	return 0
}

// used is what a program in the kernel has used.
type used struct {
	name string
	runs uint64
	time time.Duration
}

// programs returns what the exporter's programs in the kernel have used, by their number, while the kernel keeps statistics.
func (e *exporter) programs() (map[ebpf.ProgramID]used, error) {
	dir := filepath.Join("/proc", strconv.Itoa(e.cmd.Process.Pid), "fdinfo")
	files, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	all := make(map[ebpf.ProgramID]used)
	for _, file := range files {
		text, err := os.ReadFile(filepath.Join(dir, file.Name()))
		if err != nil {
			continue // closed meanwhile
		}
		for line := range strings.Lines(string(text)) { // of a program or of its link
			number, found := strings.CutPrefix(line, "prog_id:")
			if !found {
				continue
			}
			id, err := strconv.ParseUint(strings.TrimSpace(number), 10, 32)
			if err != nil {
				return nil, err
			}
			if all[ebpf.ProgramID(id)], err = usedBy(ebpf.ProgramID(id)); err != nil {
				return nil, err
			}
		}
	}
	return all, nil
}

func usedBy(id ebpf.ProgramID) (used, error) {
	program, err := ebpf.NewProgramFromID(id)
	if err != nil {
		return used{}, err
	}
	defer func() { _ = program.Close() }()
	info, err := program.Info()
	if err != nil {
		return used{}, err
	}
	stats, err := program.Stats()
	return used{info.Name, stats.RunCount, stats.Runtime}, err
}

// programCost reports what the kernel itself measures of its programs. That costs time too, so it is a run of its own.
func programCost(s settings, out io.Writer, clients []*helper, length time.Duration) error {
	stats, err := ebpf.EnableStats(unix.BPF_STATS_RUN_TIME)
	if err != nil {
		return err
	}
	defer func() { _ = stats.Close() }()
	e, err := startEvents(s, "on")
	if err != nil {
		return err
	}
	defer e.stop()
	before, err := e.programs()
	if err != nil {
		return err
	}
	exporterBefore := e.cpuTime()
	begin := time.Now()
	count, err := connectFor(clients, length)
	if err != nil {
		return err
	}
	took := time.Since(begin)
	exporterUsed := e.cpuTime() - exporterBefore
	after, err := e.programs()
	if err != nil {
		return err
	}
	processors, err := onlineProcessors()
	if err != nil {
		return err
	}
	w := tabwriter.NewWriter(out, 0, 0, 1, ' ', 0)
	_, _ = fmt.Fprintf(w, "What the kernel counts of its programs, %d connections in %s on %d processors\n\n", count, short(took), processors)
	_, _ = fmt.Fprint(w, "| program\t| runs a connection\t| a run\t| a connection\t| of all processors\t|\n| ---\t| ---\t| ---\t| ---\t| ---\t|\n")
	row := func(name string, runs uint64, spent time.Duration) {
		_, _ = fmt.Fprintf(w, "| %s\t| %.2f\t| %d ns\t| %d ns\t| %.3f %%\t|\n", name, float64(runs)/float64(count), spent.Nanoseconds()/int64(max(runs, 1)),
			spent.Nanoseconds()/int64(count), 100*spent.Seconds()/took.Seconds()/float64(processors))
	}
	var all used
	for id, now := range after {
		now.runs, now.time = now.runs-before[id].runs, now.time-before[id].time
		if now.runs > 0 {
			row(now.name, now.runs, now.time)
		}
		all.runs, all.time = all.runs+now.runs, all.time+now.time
	}
	row("all", all.runs, all.time)
	_, _ = fmt.Fprintf(w, "\nprocessor time of the exporter meanwhile: %s\n\n", short(exporterUsed))
	return w.Flush()
}

// onlineProcessors returns how many this process may use.
func onlineProcessors() (int, error) {
	var set unix.CPUSet
	err := unix.SchedGetaffinity(0, &set)
	return set.Count(), err
}
