//go:build linux

package manifest

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// collide reports whether two uses take the same port of one node. Those of two Services collide in every protocol: the API
// server gives a number to one of them only.
func (c *checker) collide(a, b *use) bool {
	switch {
	case c.same(a.owner, b.owner):
		return false
	case a.pod == nil && b.pod == nil:
		return true
	}
	return overlap(a, b) && (a.pod == nil || b.pod == nil || !a.pod.apart(b.pod.nodes))
}

func overlap(a, b *use) bool {
	return a.protocol == b.protocol && (a.address == b.address || a.address == wildcard || b.address == wildcard)
}

// together reports whether two containers of one object run at the same time, o being the one that comes first.
func together(u, o *use) bool { return u.pod == o.pod && (u.init == o.init || o.sidecar) }

// same reports whether two documents describe one object: as copies, as an object and what was made of it, or as what two
// kustomizations make of one, which need not be in one cluster. A copy that leaves its namespace open is one too.
func (c *checker) same(a, b *owner) bool {
	return a.root == b.root || a.file == b.file && a.place == b.place && (a.top == "" || a.top != b.top) ||
		a.kind == b.kind && a.name == b.name && a.name != "" && (!a.given || !b.given)
}

// rootOf returns the id of the object that made this one, or of what made that, and so on.
func (c *checker) rootOf(o *owner) string {
	id := o.id()
	if o.controller != "" {
		id = o.controller
	}
	for range 10 {
		made, found := c.controllers[id]
		if !found {
			break
		}
		id = made
	}
	return id
}

// pair is two objects that take the same ports.
type pair struct {
	later, earlier *use
	ports          []string
}

// spot is a part of the uses of a port: those of the pods that want one node by a label, or by none, at one address. Without a value
// or an address it is all of them.
type spot struct {
	port                  uint16
	label, value, address string
}

// nodeLabels are by what a pod may want one node, besides by nothing.
var nodeLabels = []string{"", nameField, "kubernetes.io/hostname"}

// claims are the uses by spot, so that a big cluster's pods, each on its own node, are not compared with each other. known are the
// uses in it: further copies are left out.
type claims struct {
	at    map[spot][]*use
	known map[string]bool
}

func (all claims) add(u *use) {
	label, value, where := "", "", ""
	if u.pod != nil {
		label, value, where = u.pod.label, u.pod.value, u.pod.where
	}
	id := u.root + " " + u.String() + " " + where
	if all.known[id] {
		return
	}
	all.known[id] = true
	for _, value := range slices.Compact([]string{"", value}) {
		for _, address := range []string{"", u.address} {
			at := spot{u.port, label, value, address}
			all.at[at] = append(all.at[at], u)
		}
	}
}

// colliding returns the first use that takes the same port as u.
func (c *checker) colliding(all claims, u *use) (first *use) {
	addresses := []string{""}
	if u.address != wildcard {
		addresses = []string{u.address, wildcard}
	}
	for _, label := range nodeLabels {
		value := ""
		if u.pod != nil && label == u.pod.label {
			value = u.pod.value
		}
		for _, address := range addresses {
			uses := all.at[spot{u.port, label, value, address}]
			at := slices.IndexFunc(uses, func(earlier *use) bool { return c.collide(u, earlier) })
			if at >= 0 && (first == nil || uses[at].order < first.order) {
				first = uses[at]
			}
		}
	}
	return first
}

// duplicates finds what takes a port that an earlier object has taken. There is one finding for two objects.
func (c *checker) duplicates() {
	taken := claims{make(map[spot][]*use), make(map[string]bool)}
	known := make(map[string]*pair)
	var own map[uint16][]*use // of the object of u
	var pairs []*pair
	for i := range c.uses {
		u := &c.uses[i]
		if u.order = i; i == 0 || u.owner != c.uses[i-1].owner {
			u.root, own = c.rootOf(u.owner), make(map[uint16][]*use)
		}
		if u.port == 0 || u.protocol == "" || !u.onNode() {
			continue
		}
		var earlier *use
		if at := slices.IndexFunc(own[u.port], func(o *use) bool { return together(u, o) && overlap(u, o) }); at >= 0 {
			earlier = own[u.port][at]
		} else {
			earlier = c.colliding(taken, u)
		}
		if earlier != nil {
			byName, byPlace := pairOf(u.root, earlier.root), pairOf(u.origin(), earlier.origin())
			p := cmp.Or(known[byName], known[byPlace])
			if p == nil {
				p = &pair{later: u, earlier: earlier}
				pairs = append(pairs, p)
			}
			known[byName], known[byPlace] = p, p
			if port := u.String(); !slices.Contains(p.ports, port) {
				p.ports = append(p.ports, port)
			}
		}
		own[u.port] = append(own[u.port], u)
		taken.add(u)
	}
	for _, p := range pairs {
		c.duplicate(p)
	}
}

// pairOf returns the same for a and b as for b and a.
func pairOf(a, b string) string { return min(a, b) + "\n" + max(a, b) }

func (c *checker) duplicate(p *pair) {
	u, by := p.later, p.earlier.owner.String()
	if u.owner == p.earlier.owner {
		by = "the same pod"
		if u.pod == nil {
			by = "the same Service"
		}
	}
	networking := ""
	if u.pod != nil && u.pod.hostNetwork {
		networking = " (host networking)"
	}
	if u.key != p.earlier.key && (u.pod == nil || p.earlier.pod == nil) {
		by += fmt.Sprintf(" (%s)", p.earlier.key)
	}
	const most = 5
	others, want := p.ports[1:], "another port"
	more := ""
	if len(others) > 0 {
		want = "other ports"
		more = ", and so are " + strings.Join(others[:min(len(others), most)], ", ")
		if len(others) == 1 {
			more = ", and so is " + others[0]
		}
		if len(others) > most {
			more += fmt.Sprintf(" and %d more", len(others)-most)
		}
	}
	c.report.find(RuleDuplicate, u.file, u.at, "%s %s of %s%s is already taken by %s at %s:%d%s: want %s",
		u.key, u, u.owner, networking, by, p.earlier.file, p.earlier.at.line, more, want)
}
