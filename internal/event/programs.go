//go:build linux

package event

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"
	"github.com/cilium/ebpf/link"
)

// The sets of hooks of programs/listeners.c.
const (
	hooksFunctions  = "functions"
	hooksTracepoint = "tracepoint"
)

// Programs by their names in the source.
var (
	functions = []string{"listen_start", "listen_stop", "hashdance", "get_port", "unhash"}
	// optionalFunctions are not in every kernel: cookie is missing without CONFIG_SYN_COOKIES.
	optionalFunctions = []string{"cookie"}
	tracepoint        = []string{"set_state"}
	cgroups           = []string{"post_bind4", "post_bind6", "sock_release"}
)

// loaded is what is in the kernel. It goes when its descriptors are closed.
type loaded struct {
	types    *btf.Cache // of the kernel, as long as programs are loaded
	maps     map[string]*ebpf.Map
	programs []*ebpf.Program
	links    []link.Link
}

// newLoaded makes the maps.
func newLoaded(types *btf.Cache) (*loaded, error) {
	l := &loaded{types: types}
	collection, err := l.load()
	if err != nil {
		return nil, err
	}
	l.maps = collection.Maps
	return l, nil
}

// load loads the named programs on the maps that are there, or makes the maps.
func (l *loaded) load(names ...string) (*ebpf.Collection, error) {
	spec, err := ebpf.LoadCollectionSpecFromReader(bytes.NewReader(object))
	if err != nil {
		return nil, fmt.Errorf("read the BPF object: %w", err)
	}
	chosen := make(map[string]*ebpf.ProgramSpec)
	for _, name := range names {
		program, ok := spec.Programs[name]
		if !ok {
			return nil, fmt.Errorf("the BPF object has no program %s", name)
		}
		chosen[name] = program
	}
	spec.Programs = chosen
	return ebpf.NewCollectionWithOptions(spec, ebpf.CollectionOptions{MapReplacements: l.maps, Cache: l.types})
}

// attach loads programs and attaches each by a function. If one fails, none is attached.
func (l *loaded) attach(by func(*ebpf.Program) (link.Link, error), names ...string) error {
	collection, err := l.load(names...)
	if err != nil {
		return err
	}
	defer collection.Close() // but for what is taken out of it
	programs, links := l.programs, l.links
	for _, name := range names {
		var attached link.Link
		attached, err = by(collection.Programs[name])
		if err != nil {
			err = fmt.Errorf("attach %s: %w", name, err)
			break
		}
		links = append(links, attached)
		programs = append(programs, collection.DetachProgram(name))
	}
	if err != nil {
		return errors.Join(err, closeAll(links[len(l.links):]), closeAll(programs[len(l.programs):]))
	}
	l.programs, l.links = programs, links
	return nil
}

func attachTracing(program *ebpf.Program) (link.Link, error) {
	return link.AttachTracing(link.TracingOptions{Program: program})
}

// attachCgroups attaches the programs that see the binds of UDP to the root of the cgroup2 hierarchy.
func (l *loaded) attachCgroups(cgroupRoot func() (string, error)) error {
	root, err := cgroupRoot()
	if err != nil {
		return err
	}
	for _, name := range cgroups {
		at := map[string]ebpf.AttachType{
			"post_bind4":   ebpf.AttachCGroupInet4PostBind,
			"post_bind6":   ebpf.AttachCGroupInet6PostBind,
			"sock_release": ebpf.AttachCgroupInetSockRelease,
		}[name]
		if err := l.attach(func(program *ebpf.Program) (link.Link, error) {
			return link.AttachCgroup(link.CgroupOptions{Path: root, Attach: at, Program: program})
		}, name); err != nil {
			return err
		}
	}
	return nil
}

// close detaches the programs.
func (l *loaded) close() error {
	maps := make([]*ebpf.Map, 0, len(l.maps))
	for _, m := range l.maps {
		maps = append(maps, m)
	}
	return errors.Join(closeAll(l.links), closeAll(l.programs), closeAll(maps))
}

func closeAll[T interface{ Close() error }](these []T) error {
	var errs []error
	for _, this := range these {
		errs = append(errs, this.Close())
	}
	return errors.Join(errs...)
}
