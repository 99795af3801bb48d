package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net/netip"
	"os"
	"runtime"
	"slices"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// The listeners of a storm are open for 16 µs to 1 ms, a short life as often as a long one: their logarithms are spread evenly.
const (
	shortest = 16 * time.Microsecond
	longest  = time.Millisecond
	// spinBelow is up to where the processor waits by itself: to sleep takes longer.
	spinBelow = 100 * time.Microsecond
	// A process uses so many ports, one after another, from firstStormPort on.
	firstStormPort = 5000
	manyPorts      = 10_000
)

// storm is a process that opens listeners, one after another, and closes them again.
type storm struct {
	*helper
	proto   string
	comm    string
	address netip.Addr
	ports   int
	made    int // so many before the next blow
}

// gale is what a storm did at one command.
type gale struct {
	Made                      int
	Took                      time.Duration
	Shortest, Median, Longest time.Duration // that a listener was open
}

// lifetimes are how long the listeners of a storm are open.
type lifetimes struct{ from, to time.Duration }

// startStorm starts a process that has its own name and its own address, by its number, in new namespaces if flags say so.
func startStorm(flags uintptr, proto string, number int, open lifetimes) (*storm, error) {
	s := &storm{proto: proto, comm: "storm-" + strconv.Itoa(number), address: netip.AddrFrom4([4]byte{127, 3, byte(number), 1}), ports: manyPorts}
	var err error
	s.helper, err = startHelper(flags, "storm", proto, s.comm, s.address.String(), open.from.String(), open.to.String())
	if err != nil {
		return nil, err
	}
	if _, err := s.stdout.ReadString('\n'); err != nil {
		return nil, fmt.Errorf("%s ended: %w", s.comm, err)
	}
	return s, nil
}

// begin has it open so many listeners, at most so many a second. With a rate of 0 it is as fast as it can.
func (s *storm) begin(count, rate int) error {
	_, err := fmt.Fprintln(s.stdin, count, rate, s.made, s.ports)
	s.made += count
	return err
}

// end waits for what begin began.
func (s *storm) end() (gale, error) {
	var g gale
	line, err := s.stdout.ReadBytes('\n')
	if err != nil {
		return g, fmt.Errorf("%s ended: %w", s.comm, err)
	}
	return g, json.Unmarshal(line, &g)
}

// blow has storms do the same at once, and returns what they did together.
func blow(storms []*storm, count, rate int) (gale, error) {
	var all gale
	for _, s := range storms {
		if err := s.begin(count, rate); err != nil {
			return all, err
		}
	}
	var medians []time.Duration
	for _, s := range storms {
		g, err := s.end()
		if err != nil {
			return all, err
		}
		if all.Made == 0 || g.Shortest < all.Shortest {
			all.Shortest = g.Shortest
		}
		all.Made += g.Made
		all.Took = max(all.Took, g.Took)
		all.Longest = max(all.Longest, g.Longest)
		medians = append(medians, g.Median)
	}
	slices.Sort(medians)
	all.Median = median(medians)
	return all, nil
}

// rate returns how many listeners a second it opened.
func (g gale) rate() float64 { return float64(g.Made) / g.Took.Seconds() }

// startStorms starts processes in the namespaces of this one, with the protocols in turns.
func startStorms(processes int, open lifetimes, protos ...string) (storms []*storm, err error) {
	for n := range processes {
		one, err := startStorm(0, protos[n%len(protos)], n, open)
		if err != nil {
			endStorms(storms)
			return nil, err
		}
		storms = append(storms, one)
	}
	return storms, nil
}

// endStorms ends the processes.
func endStorms(storms []*storm) {
	for _, s := range storms {
		_ = s.stdin.Close()
		_ = s.cmd.Wait()
	}
}

// beStorm is the process: its protocol, name, address, and how long its listeners are open.
func beStorm(args []string) error {
	address, err := netip.ParseAddr(args[2])
	if err != nil {
		return err
	}
	var open lifetimes
	var errs [2]error
	open.from, errs[0] = time.ParseDuration(args[3])
	open.to, errs[1] = time.ParseDuration(args[4])
	if err := errors.Join(errs[0], errs[1], prepareNetwork()); err != nil {
		return err
	}
	runtime.LockOSThread()
	if err := errors.Join(
		os.WriteFile("/proc/self/comm", []byte(args[1]), 0),
		os.WriteFile("/proc/thread-self/comm", []byte(args[1]), 0),
		unix.Prctl(unix.PR_SET_TIMERSLACK, 1, 0, 0, 0),
	); err != nil {
		return err
	}
	fmt.Println("ready")
	for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
		var count, rate, first, ports int
		if _, err := fmt.Sscan(lines.Text(), &count, &rate, &first, &ports); err != nil {
			return err
		}
		g, err := open.storm(args[0], address, count, rate, first, ports)
		if err != nil {
			return err
		}
		text, err := json.Marshal(g)
		if err != nil {
			return err
		}
		fmt.Println(string(text))
	}
	return nil
}

// maxTries is how often a port is tried again that is in use.
const maxTries = 10_000

// storm opens so many listeners and closes them again.
func (l lifetimes) storm(proto string, address netip.Addr, count, rate, first, ports int) (gale, error) {
	kind := unix.SOCK_STREAM
	if proto == "udp" {
		kind = unix.SOCK_DGRAM
	}
	at := unix.SockaddrInet4{Addr: address.As4()}
	lived := make([]time.Duration, count)
	begin := time.Now()
	for n := range count {
		if rate > 0 {
			if ahead := time.Duration(n)*time.Second/time.Duration(rate) - time.Since(begin); ahead > time.Millisecond {
				time.Sleep(ahead)
			}
		}
		at.Port = firstStormPort + (first+n)%ports
		fd, err := unix.Socket(unix.AF_INET, kind|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return gale{}, err
		}
		// Whoever looks into /proc/PID/fd meanwhile, for the holders of sockets, holds the last listener for a moment.
		for tries := 0; ; tries++ {
			if err = unix.Bind(fd, &at); !errors.Is(err, unix.EADDRINUSE) || tries == maxTries {
				break
			}
		}
		if err != nil {
			return gale{}, fmt.Errorf("bind to port %d: %w", at.Port, err)
		}
		if proto != "udp" {
			if err := unix.Listen(fd, 16); err != nil {
				return gale{}, err
			}
		}
		opened := time.Now()
		l.wait(n, opened)
		lived[n] = time.Since(opened)
		if err := unix.Close(fd); err != nil {
			return gale{}, err
		}
	}
	g := gale{Made: count, Took: time.Since(begin)}
	slices.Sort(lived)
	g.Shortest, g.Median, g.Longest = lived[0], median(lived), lived[len(lived)-1]
	return g, nil
}

// wait waits as long as the n-th listener is open.
func (l lifetimes) wait(n int, opened time.Time) {
	if l.to == 0 {
		return
	}
	const steps = 1000
	length := time.Duration(float64(l.from) * math.Pow(float64(l.to)/float64(l.from), float64(n%steps)/(steps-1)))
	if length >= spinBelow {
		rest := unix.NsecToTimespec(length.Nanoseconds())
		for interrupted := true; interrupted; {
			interrupted = unix.Nanosleep(&rest, &rest) != nil
		}
		return
	}
	for busy := true; busy; {
		busy = time.Since(opened) < length
	}
}
