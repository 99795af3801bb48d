//go:build linux

package program_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/listen-exporter/listen_exporter/test/netnstest"
	"github.com/listen-exporter/listen_exporter/test/program"
)

const leasesRegistry = `---
services:
  - {name: web, port: 30001, required: false}
reserved:
  - {team: ci, ports: 30000-30004, users: ["*"]}
`

func TestAnExporterWithoutPrivilegesLeasesPorts(t *testing.T) {
	program.Path(t) // before the test enters its namespace
	netnstest.Run(t, func(t *testing.T) {
		l := startLeasing(t, leasesRegistry)
		l.testDeclares()
		l.testOverstays()
		l.testTermination()
		l.testKilled()
		l.testSecond()
		l.testSilent()
	})
}

// testDeclares has a listener on a leased port, which is declared, and one whose socket is another user's, which is not.
func (l *leasing) testDeclares() {
	of := l.take(`{"name": "build-17", "ttl": "1m", "count": 2, "key": "job 17"}`)
	var again leased
	if status := l.ask(http.MethodPost, "", `{"name": "build-17", "ttl": "1m", "count": 2, "key": "job 17"}`, &again); status != http.StatusOK || again.ID != of.ID {
		l.t.Errorf("the same request again: status %d, want 200 and the same lease: %v", status, again)
	}
	for _, port := range of.Ports {
		if port < 30000 || port > 30004 || port == 30001 {
			l.t.Errorf("port %d is leased, want one of 30000-30004, but not 30001, which a service declares", port)
		}
	}
	open, shut := of.Ports[0], of.Ports[1]
	closeNow := program.Listen(l.t, "tcp", fmt.Sprintf("127.0.0.1:%d", open))
	other := program.Launch(l.t, netnstest.Nobody(l.t, program.Path(l.t), "--collector.netns=self", fmt.Sprintf("--web.listen-address=127.0.0.1:%d", shut)))
	other.Listen()

	labels := func(port int) string {
		return fmt.Sprintf(`{address="127.0.0.1",family="ipv4",port="%d",proto="tcp",range="user",scope="loopback"}`, port)
	}
	l.series("host_listen_port_registered"+labels(open), "1")
	l.series("host_listen_port_registered"+labels(shut), "0")
	l.series(`host_listen_leases{team="ci"}`, "2")
	l.series(`host_listen_lease_ports_available{team="ci"}`, "2")
	l.series(fmt.Sprintf(`host_listen_lease_info{port="%d",proto="tcp",service_name="build-17",team="ci",uid="0"}`, open), "1")
	l.series("host_listen_lease_store_up", "1")
	page := l.Get("/").Body
	for _, text := range []string{`id="leases"`, "ci: 2 ports leased, 2 available", "build-17", "by root"} {
		if !strings.Contains(page, text) {
			l.t.Errorf("the page does not say %q", text)
		}
	}
	number := strconv.Itoa(open)
	l.run(0, []string{"list", number}, "loopback build-17 leased", "leased as build-17 by root from the ports of ci, until ")
	l.run(0, []string{"list", "--format=json"}, `"state": "leased"`, `"ports_leased": 2`, `"lease": "`+of.ID+`"`)
	l.run(0, []string{"list", "build-17", "--state=leased"}, "tcp "+number+": leased as build-17")
	l.run(1, []string{"audit"}, fmt.Sprintf("tcp 127.0.0.1:%d: reserved: the port is reserved for ci (leased as build-17 by root, whose socket it is not)", shut))
	other.Stop()
	l.run(0, []string{"audit"}, "2 listeners as declared, 0 violations")
	l.run(1, []string{"list", strconv.Itoa(shut)}, "nothing listens on "+strconv.Itoa(shut), "leased as build-17 by root")
	closeNow()
	l.end(of.ID)
}

// testOverstays has a listener on a port whose lease expires.
func (l *leasing) testOverstays() {
	of := l.take(`{"name": "slow", "ttl": "5s"}`) // long enough to listen before it expires
	closeNow := program.Listen(l.t, "tcp", fmt.Sprintf("0.0.0.0:%d", of.Ports[0]))
	l.Await("an overstayed lease", func() bool {
		return strings.Contains(l.Scrape(), fmt.Sprintf(`host_listen_lease_overstayed_start_timestamp_seconds{port="%d",proto="tcp",service_name="slow",team="ci"}`, of.Ports[0]))
	})
	if all := l.all(); len(all) != 1 || all[0].State != "overstayed" {
		l.t.Errorf("the leases are %v, want one that is overstayed", all)
	}
	if page := l.Get("/").Body; !strings.Contains(page, "overstayed") {
		l.t.Error("the page does not say that a lease is overstayed")
	}
	l.run(1, []string{"audit"}, fmt.Sprintf("tcp 0.0.0.0:%d: reserved: the port is reserved for ci (leased as slow by root, whose lease has expired)", of.Ports[0]))
	l.run(0, []string{"list", strconv.Itoa(of.Ports[0])}, "overstayed: still listens although the lease expired ")
	if status := l.ask(http.MethodPost, "", `{"count": 4}`, nil); status != http.StatusConflict {
		l.t.Errorf("a lease of all ports, one of which is overstayed: status %d, want 409", status)
	}
	closeNow()
	l.Await("the end of the lease", func() bool { return len(l.all()) == 0 })
	l.end(l.take(`{"count": 4}`).ID)
}

// testTermination sends SIGTERM while requests are under way: one is answered if and only if it is done.
func (l *leasing) testTermination() {
	type asked struct {
		conn   net.Conn
		status int
	}
	var slow, whole asked
	for _, one := range []*asked{&slow, &whole} {
		conn, err := net.Dial("unix", filepath.Join(l.dir, "lease.sock"))
		if err != nil {
			l.t.Fatal(err)
		}
		defer func() { _ = conn.Close() }()
		if err := conn.SetDeadline(time.Now().Add(program.Patience)); err != nil {
			l.t.Fatal(err)
		}
		one.conn = conn
	}
	const body = `{"name": "ends", "ttl": "1m"}`
	send := func(to net.Conn, text string) {
		_, _ = io.WriteString(to, text) // the other end may be closed
	}
	head := fmt.Sprintf("POST /api/v1/leases HTTP/1.1\r\nHost: leases\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n", len(body))
	send(slow.conn, head+body[:5])
	l.all() // by now the head is read
	send(whole.conn, head+body)
	l.Signal(syscall.SIGTERM)
	send(slow.conn, body[5:])
	done := 0
	for _, one := range []*asked{&slow, &whole} {
		if resp, err := http.ReadResponse(bufio.NewReader(one.conn), nil); err == nil {
			one.status = resp.StatusCode
			_ = resp.Body.Close()
		}
		switch one.status {
		case http.StatusCreated:
			done++
		case 0: // cut off
		default:
			l.t.Errorf("status %d, want 201 or none", one.status)
		}
	}
	if code := l.Wait(); code != 0 || len(l.ErrorLines()) > 0 {
		l.t.Errorf("exit code %d, want 0, and no errors: %v", code, l.ErrorLines())
	}
	if _, err := os.Stat(filepath.Join(l.dir, "lease.sock")); err == nil {
		l.t.Error("the socket is still there")
	}
	l.start()
	all := l.all()
	if len(all) != done {
		l.t.Errorf("%d requests were answered, and the leases are %v", done, all)
	}
	for _, of := range all {
		l.end(of.ID)
	}
}

// testKilled kills the exporter while a port is leased.
func (l *leasing) testKilled() {
	before := l.take(`{"name": "lasts", "ttl": "1m"}`)
	closeNow := program.Listen(l.t, "tcp", fmt.Sprintf("0.0.0.0:%d", before.Ports[0]))
	l.Signal(syscall.SIGKILL)
	<-l.Exited
	number := strconv.Itoa(before.Ports[0])
	l.run(2, []string{"audit"}, "the leases are not known", "connection refused", "what violates the registry may be leased")
	l.start()
	after := l.all()
	if len(after) != 1 || after[0].ID != before.ID || after[0].State != "held" || after[0].Expires.Sub(before.Expires).Abs() > 2*time.Second {
		l.t.Errorf("after the restart the leases are %v, want %v", after, before)
	}
	l.run(0, []string{"audit"}, "2 listeners as declared")
	l.series(fmt.Sprintf(`host_listen_port_registered{address="0.0.0.0",family="ipv4",port=%q,proto="tcp",range="user",scope="any"}`, number), "1")
	if status := l.ask(http.MethodPost, "/"+before.ID+"/renew", "", nil); status != http.StatusOK {
		l.t.Errorf("renew: status %d, want 200", status)
	}
	closeNow()
	l.end(before.ID)
}

// testSecond starts another exporter with the same file, or the same socket.
func (l *leasing) testSecond() {
	for _, test := range []struct{ file, socket, want string }{
		{"leases.db", "other.sock", "leases.db"},
		{"other.db", "lease.sock", "somebody listens on "},
	} {
		second := program.Launch(l.t, netnstest.Nobody(l.t, program.Path(l.t), append(l.flags[:3:3], "--lease.enable", "--web.listen-address=127.0.0.1:0",
			"--lease.file="+filepath.Join(l.dir, test.file), "--lease.listen-address=unix:"+filepath.Join(l.dir, test.socket))...))
		if code := second.Wait(); code != 1 || len(second.ErrorLines()) != 1 || !strings.Contains(second.ErrorLines()[0], test.want) {
			l.t.Errorf("exit code %d, want 1 and one error with %q: %v", code, test.want, second.ErrorLines())
		}
	}
	l.end(l.take(`{}`).ID) // the first one is as it was
}

// testSilent has a socket that nobody serves.
func (l *leasing) testSilent() {
	l.Stop()
	socket := filepath.Join(l.dir, "lease.sock")
	l.run(0, []string{"audit"}, "0 listeners as declared") // no exporter leases ports, which is no problem
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err == nil {
		err = unix.Bind(fd, &unix.SockaddrUnix{Name: socket})
	}
	if err == nil {
		err = unix.Listen(fd, 1)
	}
	if err != nil {
		l.t.Fatal(err)
	}
	defer func() { _ = unix.Close(fd) }()
	began := time.Now()
	l.run(0, []string{"list"}, "the leases are not known: ", "no answer within 2s")
	if took := time.Since(began); took > program.Patience/2 {
		l.t.Errorf("list took %s", took)
	}
	program.Listen(l.t, "tcp", "0.0.0.0:30003")
	l.run(2, []string{"audit"}, "1 violation", "what violates the registry may be leased")
}
