//go:build linux

package program_test

import (
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/listen-exporter/listen_exporter/test/host"
	"github.com/listen-exporter/listen_exporter/test/netnstest"
	"github.com/listen-exporter/listen_exporter/test/program"
)

// The users of the test, whom no registry but this one names.
const (
	ann = 1234
	bob = 1235
	eve = 1236 // may lease from no range
)

const commandRegistry = `---
services:
  - {name: web, port: 30001, required: false}
reserved:
  - {team: ci, ports: 30000-30003, users: ["1234"]}
  - {team: preview, ports: 30010-30011, users: ["1234", "1235"]}
  - {team: db, ports: 30020-30029}
`

func TestPeopleLeasePortsByTheCommand(t *testing.T) {
	program.Path(t) // before the test enters its namespace
	netnstest.Run(t, func(t *testing.T) {
		l := startLeasing(t, commandRegistry, "--lease.max-per-user=3")
		l.testAnswers()
		l.testOwners()
		l.testNoneLeft()
		l.testEnds()
		l.testExporterRestarts()
		l.testSlowClients()
		l.testNotEnabled()
	})
}

// command returns a command of the program that a user runs, wherever the program lies.
func (l *leasing) command(uid uint32, args ...string) *exec.Cmd {
	l.t.Helper()
	file, err := os.Open(program.Path(l.t))
	if err != nil {
		l.t.Fatal(err)
	}
	l.t.Cleanup(func() { _ = file.Close() })
	cmd := exec.Command("/proc/self/fd/3", append([]string{"lease", l.flags[len(l.flags)-1]}, args...)...)
	cmd.ExtraFiles = []*os.File{file}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: uid}}
	return cmd
}

// says runs the command to its end, and checks its exit code and what it prints: the form of the whole stdout, and a part of stderr.
func (l *leasing) says(uid uint32, args []string, code int, stdout, stderr string) {
	l.t.Helper()
	e := program.Launch(l.t, l.command(uid, args...))
	got, said := e.Wait(), strings.Join(strings.Fields(e.Stderr.String()), " ")
	if got != code || !regexp.MustCompile(`^(?:`+stdout+`)$`).MatchString(e.Stdout.String()) || !strings.Contains(said, stderr) || stderr == "" && said != "" {
		l.t.Errorf("user %d, %q: exit code %d, want %d; on stdout, want %q:\n%son stderr, want %q:\n%s", uid, args, got, code, stdout, e.Stdout.String(), stderr, e.Stderr.String())
	}
}

// testAnswers has requests of each kind, none of which leaves a lease.
func (l *leasing) testAnswers() {
	script := func(text string, args ...string) []string { return append(args, "--", "sh", "-c", text) }
	ci := "--team=ci"
	for _, c := range []struct {
		uid            uint32
		args           []string
		code           int
		stdout, stderr string
	}{
		{ann, script("echo $PORT $PORT_1 $PORT_2", ci), 0, `(30000 30000|30002 30002|30003 30003)\n`, ""},
		{ann, script("echo $PORT_1 $PORT_2 $PORT_3", ci, "--count=3"), 0, `30\d{3} 30\d{3} 30\d{3}\n`, ""},
		{bob, script("echo $PORT"), 0, `3001[01]\n`, ""}, // there is one team only for bob
		{0, script("echo $PORT", ci), 0, `3000[023]\n`, ""},
		{ann, script("exit 3", ci), 3, "", ""},
		{ann, script("kill -9 $$", ci), 128 + 9, "", ""},
		{ann, []string{ci, "--", "no-such-program"}, 127, "", "there is no such program on the PATH"},
		{ann, []string{ci, "--", "/etc/passwd"}, 126, "", "permission denied"},
		{ann, script("echo ran"), 125, "", "--team: missing: want ci or preview"},
		{bob, script("echo ran", ci), 125, "", "user 1235 may not lease from the ranges of team ci, only 1234 and root may: want 1235 in users of the range, in the registry"},
		{eve, script("echo ran"), 125, "", "user 1236 may not lease from the ranges of any team, only 1234, 1235 and root may"},
		{eve, nil, 2, "", "user 1236 may not lease"},
		{0, script("echo ran", "--team=db"), 125, "", `--team: "db" has no ports to lease on this host: want ci or preview`},
		{ann, script("echo ran", ci, "--name=web"), 125, "", `--name: "web" is the name of a service of the registry`},
		{ann, script("echo ran", ci, "--ttl=2d"), 125, "", "--ttl: 48h is not from 1s to 24h, which is the exporter's --lease.max-ttl"},
		{ann, script("echo ran", ci, "--count=4"), 125, "", "--count: 4 is not from 1 to 3"},
	} {
		l.says(c.uid, c.args, c.code, c.stdout, c.stderr)
	}
	if all := l.all(); len(all) > 0 {
		l.t.Errorf("leases are left: %v", all)
	}
}

// testOwners has users who renew and end leases of others, and one who has enough.
func (l *leasing) testOwners() {
	l.says(ann, []string{"--team=ci", "--name=mine", "--ttl=1h", "--format=json"}, 0, `(?s)\{\n  "id": .*"ttl": "1h".*\n\}\n`, "")
	all := l.all()
	if len(all) != 1 {
		l.t.Fatalf("the leases are %v, want one", all)
	}
	id, port := all[0].ID, strconv.Itoa(all[0].Ports[0])
	const notYours = "the lease is another user's: only the user who took it, and root, may renew or end it"
	l.says(bob, []string{"--renew=" + id}, 2, "", notYours)
	l.says(bob, []string{"--end=" + id}, 2, "", notYours)
	l.says(ann, []string{"--renew=" + id}, 0, "", "")
	l.says(ann, []string{"--team=ci", "--count=3", "--", "echo", "ran"}, 125, "", "user 1234 has 1 of at most 3 leased ports: end a lease first PORT NAME USER EXPIRES ID "+port+" mine 1234 in 59m "+id)
	l.says(0, []string{"--end=" + id}, 0, "", "")
	l.says(ann, []string{"--end=" + id}, 2, "", "no such lease: it has ended, or has expired")
}

// testNoneLeft has no port for the second one who asks.
func (l *leasing) testNoneLeft() {
	l.says(ann, []string{"--team=preview", "--name=shop", "--count=2", "--ttl=10m"}, 0, `3001[01]\n3001[01]\n`, "")
	const none = "team preview has 0 of 2 ports left, and 1 is asked for PORT NAME USER EXPIRES WHY 30010 shop 1234 in 9m leased 30011 shop 1234 in 9m leased"
	l.says(bob, nil, 1, "", none)
	l.says(bob, []string{"--", "echo", "ran"}, 125, "", none)
	for _, of := range l.all() {
		l.end(of.ID)
	}
}

// started starts the command with a script that says when it runs, and waits for that.
func (l *leasing) started(script string, args ...string) *program.Exporter {
	l.t.Helper()
	e := program.Launch(l.t, l.command(ann, append(append([]string{"--team=ci"}, args...), "--", "sh", "-c", script)...))
	e.Await("the command", func() bool { return strings.Contains(e.Stdout.String(), "up") })
	return e
}

// testEnds ends the command by signals. One that is killed leaves its lease, which expires.
func (l *leasing) testEnds() {
	const loop = "echo up; while :; do sleep 0.1; done"
	for _, c := range []struct {
		script string
		signal syscall.Signal
		code   int
		stdout string
	}{
		{`trap 'echo bye; exit 5' TERM; ` + loop, syscall.SIGTERM, 5, "up\nbye\n"},
		{`trap 'echo again; exit 6' HUP; ` + loop, syscall.SIGHUP, 6, "up\nagain\n"},
		{loop, syscall.SIGTERM, 128 + 15, "up\n"},
		{loop, syscall.SIGINT, 128 + 2, "up\n"},
	} {
		e := l.started(c.script)
		e.Signal(c.signal)
		if code := e.Wait(); code != c.code || e.Stdout.String() != c.stdout || e.Stderr.String() != "" {
			l.t.Errorf("%v: exit code %d, want %d; printed %q, want %q; %s", c.signal, code, c.code, e.Stdout.String(), c.stdout, e.Stderr.String())
		}
		if all := l.all(); len(all) > 0 {
			l.t.Errorf("%v: leases are left: %v", c.signal, all)
		}
	}
	cmd := l.command(ann, "--team=ci", "--ttl=1s", "--", "sh", "-c", "echo up; read -r line")
	input, err := cmd.StdinPipe() // its end is that of the script, which outlives lease
	if err != nil {
		l.t.Fatal(err)
	}
	defer func() { _ = input.Close() }()
	e := program.Launch(l.t, cmd)
	e.Await("the command", func() bool { return strings.Contains(e.Stdout.String(), "up") })
	e.Signal(syscall.SIGKILL)
	l.Await("the end of the lease of a command that was killed", func() bool { return len(l.all()) == 0 })
}

// testExporterRestarts restarts the exporter while a command has a lease.
func (l *leasing) testExporterRestarts() {
	e := l.started("echo up; until [ -e "+filepath.Join(l.dir, "enough")+" ]; do sleep 0.1; done", "--ttl=30s", "--name=long")
	before := l.all()
	if len(before) != 1 {
		l.t.Fatalf("the leases are %v, want one", before)
	}
	l.Stop()
	l.says(ann, []string{"--team=ci", "--", "echo", "ran"}, 125, "", "no exporter gives leases on unix:"+filepath.Join(l.dir, "lease.sock")+": does it run, with --lease.enable")
	l.start()
	l.Await("a renewal", func() bool {
		all := l.all()
		return len(all) == 1 && all[0].ID == before[0].ID && all[0].Expires.After(before[0].Expires)
	})
	if err := os.WriteFile(filepath.Join(l.dir, "enough"), nil, 0o600); err != nil {
		l.t.Fatal(err)
	}
	if code := e.Wait(); code != 0 || e.Stderr.String() != "" {
		l.t.Errorf("exit code %d: %s", code, e.Stderr.String())
	}
	if all := l.all(); len(all) > 0 {
		l.t.Errorf("leases are left: %v", all)
	}
}

// testSlowClients has connections that send nothing, or half a request, or no HTTP.
func (l *leasing) testSlowClients() {
	kinds := []string{"", "POST /api/v1/leases HTTP/1.1\r\nHost: l\r\nContent-Type: application/json\r\nContent-Length: 9\r\n\r\n{", "\x16\x03\x01\x00\xff\x00", strings.Repeat("A", 1<<12)}
	for n := range 50 {
		conn, err := net.Dial("unix", filepath.Join(l.dir, "lease.sock"))
		if err != nil {
			l.t.Fatal(err)
		}
		defer func() { _ = conn.Close() }()
		_, _ = fmt.Fprint(conn, kinds[n%len(kinds)]) // no HTTP is answered at once, and closed
	}
	l.says(ann, []string{"--team=ci", "--", "sh", "-c", "echo $PORT"}, 0, `3000[023]\n`, "")
	if status := l.ask(http.MethodPost, "", `{"team": ci}`, nil); status != http.StatusBadRequest {
		l.t.Errorf("a body that is not JSON: status %d, want 400", status)
	}
}

// testNotEnabled has an exporter that leases nothing.
func (l *leasing) testNotEnabled() {
	l.Stop()
	program.StartNobody(l.t, slices.Clip(l.flags[:len(l.flags)-1])...)
	l.says(ann, []string{"--team=ci", "--", "echo", "ran"}, 125, "", "does it run, with --lease.enable and this --lease.listen-address?")
}

// A user namespace has no number for each user of the host. All others look like 65534 in it.
func TestAnExporterInAUserNamespaceRefusesWhomItDoesNotKnow(t *testing.T) {
	program.Path(t)
	netnstest.Run(t, func(t *testing.T) {
		l := &leasing{t: t, dir: host.OpenDir(t)}
		l.prepare(strings.ReplaceAll(commandRegistry, `["1234"]`, `["*"]`))
		cmd := exec.Command(program.Path(t), append(l.flags, "--lease.enable", "--lease.file="+filepath.Join(l.dir, "leases.db"), "--web.listen-address=127.0.0.1:0")...)
		cmd.SysProcAttr = &syscall.SysProcAttr{
			Cloneflags:  syscall.CLONE_NEWUSER,
			UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: 0, Size: 65536}},
			GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: 0, Size: 65536}},
		}
		l.Exporter = program.Launch(t, cmd).Listen()
		l.Await("the socket of leases", func() bool { return len(l.Logged("serving leases")) > 0 })
		ports := []string{"--team=ci", "--", "sh", "-c", "echo $PORT"}
		l.says(ann, ports, 0, `3000[023]\n`, "")
		l.says(70000, ports, 125, "", "who asks is not known: user 65534 may be any user outside the exporter's user namespace")
	})
}
