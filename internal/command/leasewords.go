//go:build linux

package command

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/listen-exporter/listen_exporter/internal/lease/api"
	"github.com/listen-exporter/listen_exporter/internal/wording"
)

// explain writes why there is no lease and, if others have the ports or the user has enough, the leases that are in the way.
func (l lessee) explain(err error) {
	l.streams.report(errors.New(l.why(err)))
	refused, is := errors.AsType[*api.Error](err)
	switch {
	case !is:
		return
	case refused.Exhausted != nil:
		l.showHolders(refused.Exhausted)
	case refused.Status == http.StatusTooManyRequests:
		l.showLeases()
	}
}

// why returns the cause of an error in one line, with what to do about it.
func (l lessee) why(err error) string {
	address := l.options.Address
	refused, is := errors.AsType[*api.Error](err)
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ECONNREFUSED):
		return fmt.Sprintf("no exporter gives leases on %s: does it run, with --lease.enable and this --lease.listen-address?", address)
	case errors.Is(err, fs.ErrPermission):
		return fmt.Sprintf("you may not connect to %s: want the rights to write to the socket, and to search its directory", address)
	case errors.Is(err, context.DeadlineExceeded):
		return "the exporter did not answer on " + address + " in time"
	case !is:
		return fmt.Sprintf("ask the exporter on %s: %v", address, err)
	case refused.Field != "":
		return "--" + refused.Message
	case refused.Status == http.StatusUnauthorized:
		return "the exporter wants a password on " + address + ", which this command has none of: want the unix: address of its --lease.listen-address"
	case refused.Status == http.StatusServiceUnavailable && refused.RetryAfter > 0:
		return fmt.Sprintf("%s; try again in %s", refused.Message, ageOf(refused.RetryAfter))
	}
	return refused.Message
}

// showHolders writes what has the ports of a team's ranges.
func (l lessee) showHolders(e *api.Exhausted) {
	t := newLeaseTable("WHY")
	for _, h := range e.Holders {
		user := h.User
		if h.Host != "" && h.Expires == nil { // of another host, which knows when
			user += "@" + h.Host
		}
		t.addLease(strconv.Itoa(int(h.Port)), h.Name, user, h.Expires, h.Why)
	}
	l.show(t, e.More)
}

// showLeases writes the leases that count against the limit of this user or of the team.
func (l lessee) showLeases() {
	const most = 20
	ctx, cancel := context.WithTimeout(context.Background(), answerTimeout)
	defer cancel()
	listing, err := l.client.Leases(ctx)
	if err != nil {
		return // why there is no new one has been said
	}
	t, more := newLeaseTable("ID"), 0
	for _, leased := range listing.Leases {
		switch {
		case leased.Host != listing.Host, leased.UID != uint32(os.Getuid()) && leased.Team != l.options.Request.Team:
		case len(t.lines) > most:
			more++
		default:
			t.addLease(numbers(leased.Ports), leased.Name, leased.User, leased.Expires, leased.ID)
		}
	}
	l.show(t, more)
}

func newLeaseTable(last string) table {
	const nameColumn = 1
	t := table{shrinkable: []int{nameColumn}, lines: [][]cell{nil}}
	for _, title := range []string{"PORT", "NAME", "USER", "EXPIRES", last} {
		t.lines[0] = append(t.lines[0], cell{text: title, right: title == "PORT", paint: paintBold})
	}
	return t
}

func (t *table) addLease(port, name, user string, expires *time.Time, last string) {
	expiry := ""
	if expires != nil {
		left := time.Until(*expires)
		if expiry = "in " + ageOf(left); left <= 0 {
			expiry = ageOf(-left) + " ago"
		}
	}
	line := []cell{{text: port, right: true}, {text: name}, {text: user}, {text: expiry}, {text: last}}
	for i := range line {
		line[i].text = cmp.Or(wording.Printable(line[i].text), "-")
	}
	t.lines = append(t.lines, line)
}

// numbers returns ports, such as "30001, 30002".
func numbers(ports []uint16) string {
	var all []string
	for _, port := range ports {
		all = append(all, strconv.Itoa(int(port)))
	}
	return strings.Join(all, ", ")
}

// portsOf returns the ports of a lease with their noun.
func portsOf(leased api.Lease) string {
	return wording.Plural(len(leased.Ports), "port") + " " + numbers(leased.Ports)
}

func (l lessee) show(t table, more int) {
	if len(t.lines) == 1 {
		return
	}
	text := new(bytes.Buffer)
	t.write(text, screenOf(l.streams.Err))
	if more > 0 {
		fmt.Fprintf(text, "… and %s\n", wording.Count(more, "more line"))
	}
	_, _ = l.streams.Err.Write(text.Bytes())
}
