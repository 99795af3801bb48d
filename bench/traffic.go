package main

import (
	"errors"
	"fmt"
	"io"
	"net"
	"runtime"
	"slices"
	"text/tabwriter"
	"time"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"github.com/listen-exporter/listen_exporter/internal/event"
	"github.com/listen-exporter/listen_exporter/internal/holder"
	netnamespace "github.com/listen-exporter/listen_exporter/internal/netns"
	"github.com/listen-exporter/listen_exporter/internal/socket"
)

// maxPerPacket is how much more processor time a packet may take over loopback, where two programs run for each: 10 %. Half of that is
// measured; runs on a busy machine differ by the other half.
const maxPerPacket = 1.10

// trafficCost measures what a packet costs while traffic is counted: of UDP, where a packet is all that there is, and of TCP streams.
func trafficCost(s settings, out io.Writer) error {
	root, err := holder.FindCgroup2("/proc", "/sys")
	if err != nil {
		return err
	}
	number, err := (netnamespace.Main{Own: true}).Number()
	if err != nil {
		return err
	}
	var (
		udp = func(port uint16) (time.Duration, error) { return exchangeUDP(port, s.size(100_000, 1_000)) }
		tcp = func(port uint16) (time.Duration, error) { return streamTCP(port, s.size(1<<30, 1<<20)) }
	)
	const port, otherPort = 5300, 5301
	cases := []struct {
		name    string
		netns   uint32
		watched uint16
	}{
		{"the port counts", number, port},
		{"the port does not count", number, otherPort},
		{"the port counts in another namespace", number + 1, port},
	}
	var missed error
	for _, load := range []struct {
		title string
		proto socket.Protocol
		run   func(port uint16) (time.Duration, error)
	}{
		{"Processor time of a UDP packet of 100 bytes over loopback, sent and read by one thread", socket.UDP, udp},
		{"Processor time of a MB of a TCP stream over loopback", socket.TCP, tcp},
	} {
		sides := []side{{"without", func() (time.Duration, error) { return load.run(port) }}}
		for _, c := range cases {
			sides = append(sides, side{c.name, func() (time.Duration, error) {
				took, _, err := whileCounted(root, c.netns, event.Port{Proto: load.proto, Number: c.watched}, func() (time.Duration, error) { return load.run(port) })
				return took, err
			}})
		}
		results, err := inTurns(s.rounds, sides...)
		if err != nil {
			return err
		}
		var ratios []ratio
		for _, r := range results[1:] {
			ratios = append(ratios, ratio{of: r, to: results[0], want: maxPerPacket})
		}
		missed = errors.Join(missed, report(out, load.title, results, ratios...))
	}

	stats, err := ebpf.EnableStats(unix.BPF_STATS_RUN_TIME)
	if err != nil {
		return err
	}
	defer func() { _ = stats.Close() }()
	w := tabwriter.NewWriter(out, 0, 0, 1, ' ', 0)
	_, _ = fmt.Fprint(w, "Time of a program, by the kernel's own statistics\n\n| UDP\t| receives\t| sends\t|\n| ---\t| ---\t| ---\t|\n")
	for _, c := range cases {
		_, programs, err := whileCounted(root, c.netns, event.Port{Proto: socket.UDP, Number: c.watched}, func() (time.Duration, error) { return udp(port) })
		if err != nil {
			return err
		}
		_, _ = fmt.Fprintf(w, "| %s\t| %s\t| %s\t|\n", c.name, programs["receive"], programs["transmit"])
	}
	return errors.Join(missed, w.Flush())
}

// whileCounted calls measure while the traffic of a port is counted. It returns what measure does, and how long a run of each program took,
// if the kernel has its statistics enabled.
func whileCounted(root string, netns uint32, port event.Port, measure func() (time.Duration, error)) (took time.Duration, programs map[string]time.Duration, err error) {
	traffic, err := event.OpenTraffic(root, netns, 1000)
	if err != nil {
		return 0, nil, err
	}
	defer func() { err = errors.Join(err, traffic.Close()) }()
	if err := traffic.SetPorts(slices.Values([]event.Port{port})); err != nil {
		return 0, nil, err
	}
	if took, err = measure(); err != nil {
		return 0, nil, err
	}
	programs, err = runTimes("receive", "transmit")
	return took, programs, err
}

// runTimes returns how long a run of each program took. Of several with one name the newest counts.
func runTimes(names ...string) (map[string]time.Duration, error) {
	times := make(map[string]time.Duration)
	for id := ebpf.ProgramID(0); ; {
		next, err := ebpf.ProgramGetNextID(id)
		if errors.Is(err, unix.ENOENT) {
			return times, nil
		}
		if err != nil {
			return nil, err
		}
		id = next
		program, err := ebpf.NewProgramFromID(id)
		if err != nil { // it may have gone
			continue
		}
		info, err := program.Info()
		if err == nil && program.Type() == ebpf.CGroupSKB && slices.Contains(names, info.Name) {
			var stats *ebpf.ProgramStats
			if stats, err = program.Stats(); err == nil && stats.RunCount > 0 {
				times[info.Name] = stats.Runtime / time.Duration(stats.RunCount)
			}
		}
		if err = errors.Join(err, program.Close()); err != nil {
			return nil, err
		}
	}
}

// spent returns how much processor time a clock has counted. That of the kernel for the packets of loopback is in it.
func spent(clock int32) time.Duration {
	var now unix.Timespec
	_ = unix.ClockGettime(clock, &now) // fails only for a clock that there is not
	return time.Duration(now.Nano())
}

// exchangeUDP sends packets to a port and reads them, and returns how much processor time one took.
func exchangeUDP(port uint16, packets int) (time.Duration, error) {
	address := unix.SockaddrInet4{Port: int(port), Addr: [4]byte{127, 0, 0, 1}}
	server, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, err
	}
	defer func() { _ = unix.Close(server) }()
	client, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, err
	}
	defer func() { _ = unix.Close(client) }()
	if err := errors.Join(unix.Bind(server, &address), unix.Connect(client, &address)); err != nil {
		return 0, err
	}
	var packet [100]byte
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	start := spent(unix.CLOCK_THREAD_CPUTIME_ID)
	for range packets {
		if _, err := unix.Write(client, packet[:]); err != nil {
			return 0, err
		}
		if _, err := unix.Read(server, packet[:]); err != nil {
			return 0, err
		}
	}
	return (spent(unix.CLOCK_THREAD_CPUTIME_ID) - start) / time.Duration(packets), nil
}

// streamTCP sends bytes to a port, and returns how much processor time a MB took.
func streamTCP(port uint16, bytes int) (time.Duration, error) {
	listener, err := net.Listen("tcp4", fmt.Sprintf("127.0.0.1:%d", port))
	if err != nil {
		return 0, err
	}
	defer func() { _ = listener.Close() }()
	sent := make(chan error, 1)
	go func() {
		client, err := net.Dial("tcp4", listener.Addr().String())
		if err != nil {
			sent <- err
			return
		}
		block := make([]byte, 64<<10)
		for left := bytes; left > 0 && err == nil; left -= len(block) {
			_, err = client.Write(block)
		}
		sent <- errors.Join(err, client.Close())
	}()
	conn, err := listener.Accept()
	if err != nil {
		return 0, err
	}
	start := spent(unix.CLOCK_PROCESS_CPUTIME_ID)
	block := make([]byte, 64<<10)
	for err == nil {
		_, err = conn.Read(block)
	}
	took := spent(unix.CLOCK_PROCESS_CPUTIME_ID) - start
	_ = conn.Close()
	if err = <-sent; err != nil {
		return 0, err
	}
	return took / time.Duration(max(bytes>>20, 1)), nil
}
