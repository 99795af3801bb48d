//go:build linux

package netns

import (
	"bytes"
	"cmp"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// owner is who a namespace counts for when there are too few places.
type owner struct {
	group string // of cgroups
	uid   uint32
}

// places shares the places of namespaces fairly: first between groups of cgroups, then between the users of a group. A namespace of
// one that has fewer places gets the place of the newest namespace of the one that has most. It never makes the two change roles, so
// where no namespace begins or ends, no place changes hands. As long as there are places, nobody's owner is asked for.
type places struct {
	groups map[string]map[uint32][]*Namespace // nil until they are needed
	counts map[string]int                     // namespaces of each group
}

// forget is called when the namespaces have changed.
func (p *places) forget() { p.groups = nil }

// loser returns the namespace that gives its place to a new one of an owner, or nil if none does.
func (p *places) loser(all []*Namespace, newcomer owner) *Namespace {
	for {
		if p.groups == nil {
			p.share(all)
		}
		group := largest(p.counts, func(n int) int { return n })
		fair := p.counts[group] > p.counts[newcomer.group]+1
		if !fair { // perhaps another user of the same group has more
			group = newcomer.group
		}
		users := p.groups[group]
		most := users[largest(users, func(n []*Namespace) int { return len(n) })]
		if !fair && len(most) <= len(users[newcomer.uid])+1 {
			return nil
		}
		victim := most[len(most)-1]
		// A container's process may have been moved to its own cgroup since.
		now := victim.askOwner()
		if now == *victim.owner {
			return victim
		}
		*victim.owner = now
		p.forget()
	}
}

// share counts the namespaces of each owner.
func (p *places) share(all []*Namespace) {
	p.groups, p.counts = make(map[string]map[uint32][]*Namespace), make(map[string]int)
	for _, o := range all {
		if o.owner == nil {
			now := o.askOwner()
			o.owner = &now
		}
		if p.groups[o.owner.group] == nil {
			p.groups[o.owner.group] = make(map[uint32][]*Namespace)
		}
		p.groups[o.owner.group][o.owner.uid] = append(p.groups[o.owner.group][o.owner.uid], o)
		p.counts[o.owner.group]++
	}
}

// largest returns the key of the largest value, of several the first one.
func largest[K cmp.Ordered, V any](m map[K]V, size func(V) int) (key K) {
	most := -1
	for k, v := range m {
		if n := size(v); n > most || n == most && k < key {
			key, most = k, n
		}
	}
	return key
}

// askOwner returns the owner of the oldest process that is known to live in the namespace.
func (o *Namespace) askOwner() owner {
	view, err := o.View()
	if err != nil {
		return owner{}
	}
	defer view.Close()
	return ownerOf(unix.AT_FDCWD, view.Dir)
}

// ownerOf returns the owner of the thread with a directory. What cannot be read is empty. The user is the real one: the directory's
// owner is root for any process that asks for it (PR_SET_DUMPABLE).
func ownerOf(dir int, path string) (o owner) {
	text, _ := readAt(dir, filepath.Join(path, "cgroup"))
	for line := range strings.Lines(string(text)) {
		hierarchy, at, _ := strings.Cut(strings.TrimSuffix(line, "\n"), ":")
		controllers, at, _ := strings.Cut(at, ":")
		// The one hierarchy of version 2, or that of version 1 in which systemd keeps its units.
		if group := groupOf(at); group != "" && (hierarchy == "0" || controllers == "name=systemd" && o.group == "") {
			o.group = group
		}
	}
	status, _ := readAt(dir, filepath.Join(path, "status"))
	if _, uids, ok := bytes.Cut(status, []byte("\nUid:\t")); ok {
		uid, _, _ := bytes.Cut(uids, []byte("\t"))
		number, _ := strconv.ParseUint(string(uid), 10, 32)
		o.uid = uint32(number)
	}
	return o
}

// groupOf returns the part of a cgroup's path that the users of the cgroup cannot choose. All that a user runs is one group, and so is
// a service with all that it was delegated. Each container is one, or its pod.
func groupOf(path string) string {
	names := strings.FieldsFunc(path, func(r rune) bool { return r == '/' })
	names = slices.DeleteFunc(names, func(name string) bool { return name == ".." }) // of a cgroup namespace
	for i, name := range names {
		switch {
		case i == 1 && names[0] == "user.slice", isPodOrContainer(name):
		case strings.HasSuffix(name, ".slice") || slices.Contains(containerParents, name):
			continue
		}
		return strings.Join(names[:i+1], "/")
	}
	return strings.Join(names, "/")
}

// containerParents are cgroups in which only runtimes make others: those of cgroupfs drivers, and services that have pods or
// containers below them on some hosts.
var containerParents = []string{
	"kubelet", "kubepods", "burstable", "besteffort", "docker", "podman", "libpod_parent", "lxc", "machine", "k8s.io", "default",
	"containerd.service", "crio.service", "docker.service", "k3s.service", "k3s-agent.service", "kubelet.service",
	"rke2-agent.service", "rke2-server.service", "snap.microk8s.daemon-containerd.service", "snap.microk8s.daemon-kubelite.service",
}

// isPodOrContainer reports whether a cgroup is a pod's, such as kubepods-pod<uid>.slice or pod<uid>, or has a container's id.
func isPodOrContainer(name string) bool {
	const uid, id = 32, 64 // hexadecimal digits
	if _, pod, ok := strings.Cut("-"+name, "-pod"); ok && countHex(pod) >= uid {
		return true
	}
	return countHex(name) >= id
}

// countHex returns how many hexadecimal digits a name has.
func countHex(name string) (n int) {
	for _, r := range name {
		if r >= '0' && r <= '9' || r >= 'a' && r <= 'f' {
			n++
		}
	}
	return n
}
