//go:build linux

package event

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"
	"github.com/cilium/ebpf/ringbuf"

	"github.com/listen-exporter/listen_exporter/internal/socket"
)

// Source is the programs in the kernel, attached. Its methods may be called at the same time, Read by one goroutine.
type Source struct {
	hooks      string
	withoutUDP error
	reader     *ringbuf.Reader
	record     ringbuf.Record

	mu     sync.RWMutex // held while the descriptors must stay open
	loaded *loaded      // nil after Close
}

// Open loads and attaches the programs. Its error names the right or the feature of the kernel that is missing, and what to do.
// cgroupRoot returns where the root of the cgroup2 hierarchy is mounted, which only kernels need that let no function be hooked.
//
// It takes a tenth of a second, and reads the types of the kernel, which take some 10 MB of memory meanwhile.
func Open(cgroupRoot func() (string, error)) (*Source, error) {
	types, err := prepare(capBPF, capPerfmon)
	if err != nil {
		return nil, err
	}
	in, err := newLoaded(types)
	if err != nil {
		return nil, explain(err)
	}
	s := &Source{loaded: in}
	if err := s.attach(cgroupRoot); err != nil {
		return nil, errors.Join(explain(err), in.close())
	}
	in.types = nil
	if s.reader, err = ringbuf.NewReader(in.maps["events"]); err != nil {
		return nil, errors.Join(fmt.Errorf("map the ring buffer: %w", err), in.close())
	}
	return s, nil
}

// prepare checks what programs need, and returns the types of the kernel. They are a cache of their own, as they take much memory.
func prepare(wanted ...capability) (*btf.Cache, error) {
	if err := checkRights(wanted...); err != nil {
		return nil, err
	}
	raiseMemlock()
	types := btf.NewCache()
	if _, err := types.Kernel(); err != nil {
		return nil, fmt.Errorf("the kernel has no BTF, the types that eBPF programs need: want CONFIG_DEBUG_INFO_BTF=y and "+
			"/sys/kernel/btf/vmlinux: %w", err)
	}
	return types, nil
}

// attach attaches the first set of hooks that the kernel takes.
func (s *Source) attach(cgroupRoot func() (string, error)) error {
	refused := s.loaded.attach(attachTracing, functions...)
	if refused == nil {
		s.hooks = hooksFunctions
		for _, name := range optionalFunctions {
			_ = s.loaded.attach(attachTracing, name)
		}
		return nil
	}
	if err := s.loaded.attach(attachTracing, tracepoint...); err != nil {
		return fmt.Errorf("neither the kernel's functions can be traced (%w) nor its tracepoint inet_sock_set_state (%w)", refused, err)
	}
	s.hooks = hooksTracepoint
	if missing := missingRights(capNetAdmin); missing != "" {
		s.withoutUDP = fmt.Errorf("UDP listeners are not seen at once: this kernel needs %s for that, since its functions cannot be "+
			"traced: %w", missing, cause(refused))
	} else if err := s.loaded.attachCgroups(cgroupRoot); err != nil {
		s.withoutUDP = fmt.Errorf("UDP listeners are not seen at once: %w, and the kernel's functions cannot be traced: %w", cause(err), cause(refused))
	}
	return nil
}

// Hooks names the hooks in use: functions or tracepoint.
func (s *Source) Hooks() string { return s.hooks }

// WithoutUDP returns why UDP listeners are not reported, or nil if they are.
func (s *Source) WithoutUDP() error { return s.withoutUDP }

// maxRead is how many events Read returns at most.
const maxRead = 2048

// ErrFlushed is the error of a Read after Flush. All that was reported before has been read, its events included.
var ErrFlushed = errors.New("flushed")

// Read appends events to buffer, in the order in which the kernel reported them. It blocks until there are some, or until Flush or
// Close. After Flush it returns ErrFlushed once, and after Close os.ErrClosed.
func (s *Source) Read(buffer []Event) ([]Event, error) {
	for range maxRead {
		err := s.reader.ReadInto(&s.record)
		if errors.Is(err, ringbuf.ErrFlushed) {
			return buffer, ErrFlushed
		}
		if err != nil {
			return buffer, fmt.Errorf("read the ring buffer: %w", err)
		}
		event, err := decode(s.record.RawSample)
		if err != nil {
			return buffer, err
		}
		buffer = append(buffer, event)
		if s.record.Remaining == 0 {
			break
		}
	}
	return buffer, nil
}

// Flush makes Read return ErrFlushed as soon as it has returned all that was reported before the call.
func (s *Source) Flush() {
	_ = s.reader.Flush() // fails only after Close
}

// use calls do unless the source is closed, and keeps it open meanwhile.
func (s *Source) use(do func(*loaded) error) error {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.loaded == nil {
		return os.ErrClosed
	}
	return do(s.loaded)
}

// Lost returns how many events and connections were lost since Open: because a buffer or a map of the kernel was full, or because a
// program interrupted itself. The latter is not known of the tracepoint.
func (s *Source) Lost() (uint64, error) {
	var lost uint64
	err := s.use(func(in *loaded) error {
		var perCPU []uint64
		if err := in.maps["lost"].Lookup(uint32(0), &perCPU); err != nil {
			return fmt.Errorf("read what is lost: %w", err)
		}
		for _, n := range perCPU {
			lost += n
		}
		if s.hooks == hooksTracepoint {
			return nil // nearly all that its program misses is of other changes
		}
		for _, program := range in.programs {
			stats, err := program.Stats()
			if err != nil {
				return fmt.Errorf("read what is lost: %w", err)
			}
			lost += stats.RecursionMisses // 0 before Linux 5.12
		}
		return nil
	})
	return lost, err
}

// Watch has connections to a place counted at which so many sockets were open before Open. Those of listeners that open are counted
// anyway. A place that is watched stays as it is.
func (s *Source) Watch(place Place, sockets int) error {
	return s.use(func(in *loaded) error {
		err := in.maps["places"].Update(keyOf(place), state{Sockets: uint32(sockets)}, ebpf.UpdateNoExist)
		if err != nil && !errors.Is(err, ebpf.ErrKeyExist) {
			return fmt.Errorf("watch %v: %w", place.Addr, err)
		}
		return nil
	})
}

// Forget ends the watch over a place at which no socket is open, though no event said so. A place that is not watched is no error.
func (s *Source) Forget(place Place) error {
	return s.use(func(in *loaded) error {
		err := in.maps["places"].Delete(keyOf(place))
		if err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
			return fmt.Errorf("forget %v: %w", place.Addr, err)
		}
		return nil
	})
}

// Connections calls yield with each place of a TCP listener that opened since Open or is watched, in no order.
func (s *Source) Connections(yield func(Place, Connections)) error {
	return s.use(func(in *loaded) error {
		var (
			keys   [512]key
			values [512]state
			cursor ebpf.MapBatchCursor
		)
		for {
			n, err := in.maps["places"].BatchLookup(&cursor, keys[:], values[:], nil)
			if err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
				return fmt.Errorf("read the connections: %w", err)
			}
			for i := range n {
				place, bad := keys[i].place()
				if bad != nil {
					return fmt.Errorf("read the connections: %w", bad)
				}
				if place.Proto == socket.TCP {
					yield(place, Connections{Count: values[i].Connections, Last: time.Duration(values[i].Last)})
				}
			}
			if err != nil { // that was the last batch
				return nil
			}
		}
	})
}

// Close detaches the programs and ends Read.
func (s *Source) Close() error {
	err := s.reader.Close()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.loaded == nil {
		return err
	}
	err = errors.Join(err, s.loaded.close())
	s.loaded = nil
	return err
}
