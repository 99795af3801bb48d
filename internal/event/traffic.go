//go:build linux

package event

import (
	"bytes"
	"errors"
	"fmt"
	"iter"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"

	"github.com/listen-exporter/listen_exporter/internal/socket"
)

// Port is a local port of the sockets whose traffic is counted.
type Port struct {
	Proto  socket.Protocol
	Number uint16
}

// Counters count the packets of a port since it is watched. Bytes are those of the packets from the IP header on. It is struct
// counters of programs/traffic.c.
type Counters struct {
	ReceivePackets, ReceiveBytes, TransmitPackets, TransmitBytes uint64
}

// Traffic counts packets of ports in the kernel. Its methods are for one goroutine at a time.
type Traffic struct {
	links   []link.Link
	ports   *ebpf.Map
	watched map[Port]struct{}
	zero    []Counters // one for each CPU
}

// OpenTraffic begins to count, in the network namespace with a number, as the inode of /proc/<pid>/ns/net is. cgroupRoot is where the
// whole cgroup2 hierarchy is mounted. At most maxPorts ports can be watched. At first none is.
//
// It needs CAP_BPF, CAP_PERFMON and CAP_NET_ADMIN, and its error names what is missing. It leaves programs of others at the cgroups as
// they are, and lets every packet pass.
func OpenTraffic(cgroupRoot string, netns uint32, maxPorts int) (*Traffic, error) {
	cpus, err := ebpf.PossibleCPU()
	if err != nil {
		return nil, err
	}
	types, err := prepare(capBPF, capPerfmon, capNetAdmin)
	if err != nil {
		return nil, err
	}
	spec, err := ebpf.LoadCollectionSpecFromReader(bytes.NewReader(trafficObject))
	if err != nil {
		return nil, fmt.Errorf("read the BPF object: %w", err)
	}
	if err := spec.Variables["netns"].Set(netns); err != nil {
		return nil, err
	}
	spec.Maps["ports"].MaxEntries = uint32(maxPorts)
	var objects struct {
		Receive  *ebpf.Program `ebpf:"receive"`
		Transmit *ebpf.Program `ebpf:"transmit"`
		Ports    *ebpf.Map     `ebpf:"ports"`
	}
	if err := spec.LoadAndAssign(&objects, &ebpf.CollectionOptions{Cache: types}); err != nil {
		return nil, fmt.Errorf("load the programs that count traffic: %w", explain(err))
	}
	// A link keeps its program.
	defer func() { _ = errors.Join(objects.Receive.Close(), objects.Transmit.Close()) }()
	t := &Traffic{ports: objects.Ports, watched: make(map[Port]struct{}), zero: make([]Counters, cpus)}
	for attach, program := range map[ebpf.AttachType]*ebpf.Program{
		ebpf.AttachCGroupInetIngress: objects.Receive,
		ebpf.AttachCGroupInetEgress:  objects.Transmit,
	} {
		l, err := link.AttachCgroup(link.CgroupOptions{Path: cgroupRoot, Attach: attach, Program: program})
		if err != nil {
			_ = t.Close()
			return nil, fmt.Errorf("attach the programs that count traffic to %s: %w", cgroupRoot, explain(err))
		}
		t.links = append(t.links, l)
	}
	return t, nil
}

// Close stops counting.
func (t *Traffic) Close() error {
	var errs []error
	for _, l := range t.links {
		errs = append(errs, l.Close())
	}
	return errors.Join(append(errs, t.ports.Close())...)
}

// SetPorts says which ports are watched. Those that were watched before keep their counters, the others begin at 0. On an error some of
// the ports are not watched; the next call tries again.
func (t *Traffic) SetPorts(ports iter.Seq[Port]) error {
	wanted := make(map[Port]struct{}, len(t.watched))
	for port := range ports {
		wanted[port] = struct{}{}
	}
	for port := range t.watched {
		if _, has := wanted[port]; has {
			continue
		}
		if err := t.ports.Delete(port.key()); err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
			return fmt.Errorf("count the traffic of %v port %d no longer: %w", port.Proto, port.Number, err)
		}
		delete(t.watched, port)
	}
	for port := range wanted {
		if _, has := t.watched[port]; has {
			continue
		}
		if err := t.ports.Update(port.key(), t.zero, ebpf.UpdateAny); err != nil {
			return fmt.Errorf("count the traffic of %v port %d: %w", port.Proto, port.Number, err)
		}
		t.watched[port] = struct{}{}
	}
	return nil
}

// Read calls yield with the counters of each port that is watched, in no order.
func (t *Traffic) Read(yield func(Port, Counters)) error {
	const batch = 256 // ports
	keys, values := make([]uint32, batch), make([]Counters, batch*len(t.zero))
	for cursor, done := new(ebpf.MapBatchCursor), false; !done; {
		read, err := t.ports.BatchLookup(cursor, keys, values, nil)
		if done = errors.Is(err, ebpf.ErrKeyNotExist); err != nil && !done {
			return fmt.Errorf("read the counters of traffic: %w", err)
		}
		for n, key := range keys[:read] {
			var sum Counters
			for _, c := range values[n*len(t.zero) : (n+1)*len(t.zero)] { // of a CPU
				sum.ReceivePackets += c.ReceivePackets
				sum.ReceiveBytes += c.ReceiveBytes
				sum.TransmitPackets += c.TransmitPackets
				sum.TransmitBytes += c.TransmitBytes
			}
			yield(Port{socket.Protocol(key >> 16), uint16(key)}, sum)
		}
	}
	return nil
}

// key returns the key of a port in the map.
func (p Port) key() uint32 { return uint32(p.Proto)<<16 | uint32(p.Number) }
