//go:build linux

package registry

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/listen-exporter/listen_exporter/internal/ports"
	"github.com/listen-exporter/listen_exporter/internal/wording"
)

// Leasable is a reserved range from which somebody may lease ports.
type Leasable struct {
	ports.Range
	Team string
	// Users are who may: names, numbers, or * for all.
	Users []string
	// AnyUser reports whether the sockets on a leased port may belong to any user.
	AnyUser bool
}

// leasableOf returns the leasable ones of ranges, in their order.
func leasableOf(ranges []Range) (leasable []Leasable) {
	for _, r := range ranges {
		if len(r.of.users) > 0 {
			leasable = append(leasable, Leasable{Range: r.Range, Team: r.Team, Users: r.of.users, AnyUser: r.of.anyUser})
		}
	}
	return leasable
}

// Leasable returns the ranges of the table's host from which somebody may lease ports, lowest port first.
func (t *Table) Leasable() []Leasable { return t.leasable }

// Refusal returns why a port must not be leased on the table's host, of any protocol: a service declares it, or it is forbidden. It
// returns nothing if it may be. A service with port any declares none.
func (t *Table) Refusal(port uint16) string {
	for proto := range protocols {
		for at := range t.claims(proto, port) {
			if !at.anyPort {
				return "service " + wording.Quoted(at.name) + " declares it"
			}
		}
		for f := range t.forbidden.of(proto, port) {
			return "it is forbidden: " + f.reason
		}
	}
	return ""
}

// HasService reports whether a service has a name, for whatever host it is.
func (t *Table) HasService(name string) bool {
	return name == wording.Program || slices.Contains(t.elsewhere, name) ||
		slices.ContainsFunc(t.services, func(s *service) bool { return s.name == name })
}

// clientPorts are those that the kernel gives to clients (inet_init_net in net/ipv4/af_inet.c), unless somebody has set
// net.ipv4.ip_local_port_range.
var clientPorts = ports.Range{First: 32768, Last: 60999}

// Hints returns what is allowed and may still not be what was meant: ports of leasable ranges that most hosts do not lease.
func (r *Registry) Hints() (hints []Fault) {
	for _, of := range r.reserved {
		for _, p := range of.ports {
			common := portRange{Range: ports.Range{First: max(p.First, clientPorts.First), Last: min(p.Last, clientPorts.Last)}}
			if len(of.users) == 0 || common.First > common.Last {
				continue
			}
			hints = append(hints, Fault{File: p.file, Line: p.line, Column: p.column, Text: fmt.Sprintf(
				"%s of team %s: the kernel gives %s to clients unless it is set otherwise, and such a port is never leased: want other ports, or these in the sysctl net.ipv4.ip_local_reserved_ports",
				common, wording.Quoted(of.team), clientPorts)})
		}
	}
	slices.SortFunc(hints, Fault.Compare)
	return hints
}

// anybody is what users says for all users.
const anybody = "*"

// users returns who may lease: names, numbers, which need no quotes, or anybody.
func (r *report) users(n *yaml.Node) (users []string) {
	items := r.items(n, "users", `want the names or numbers of users: [gitlab-runner], or "*" for all`)
	for _, item := range items {
		user, number := item.Value, item.Tag == "!!int"
		ok := number
		if !ok {
			user, ok = r.name(item, "a user", "gitlab-runner")
		}
		problem := checkUser(user, number)
		switch {
		case !ok:
		case problem != "":
			r.at(item, "user %s %s", wording.Quoted(user), problem)
		case user == anybody && len(items) > 1:
			r.at(item, `user "*" is all users: want it and no other, or the users who may lease`)
		case slices.Contains(users, user):
			r.at(item, "user %s is already in this list: want it once", wording.Quoted(user))
		default:
			users = append(users, user)
		}
	}
	return users
}

// userName is the form of the name of a user (passwd(5)). Directories of users have names such as CORP\alice and alice@example.org.
var userName = wording.Regexp(`^[^-\s:,/@%*?!"'][^\s:,/*?!"']*$`)

// checkUser returns what is wrong with the name or number of a user, or nothing. What consists of digits is a number in any case.
func checkUser(user string, number bool) string {
	if user == anybody {
		return ""
	}
	if number || strings.Trim(user, "0123456789") == "" {
		switch uid, err := strconv.ParseUint(user, 10, 32); {
		case err != nil || uid == math.MaxUint32: // which stands for no user (uid_valid in include/linux/uidgid.h)
			return "is not the number of a user: want one from 0 to 4294967294"
		case len(user) > 1 && user[0] == '0':
			return "could be read as an octal number: want " + strconv.FormatUint(uid, 10)
		}
		return ""
	}
	switch {
	case namesInOne.Get().MatchString(user):
		return "is several names in one text: want [" + strings.Join(nameSeparator.Get().Split(user, -1), ", ") + "]"
	case strings.ContainsAny(user, "*?"):
		return `is a glob: want the names of the users, or "*" for all`
	case strings.HasPrefix(user, "%"), strings.HasPrefix(user, "@"):
		return "is a group: want the names of its users"
	case !userName.Get().MatchString(user):
		return "is not the name of a user: want one such as gitlab-runner"
	}
	return ""
}
