//go:build linux

package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/go-kit/log"
	"golang.org/x/sys/unix"

	"github.com/listen-exporter/listen_exporter/test/host"
)

// The roles of the test binary. Their arguments begin with the path of the socket.
const (
	// roleClient asks for what its arguments say, and prints the answer: the ID and the user of a lease, or the status and the error.
	// Of a list it prints the user and the key of each.
	roleClient = "client"
	// roleSlow opens some connections of each kind, and keeps them until the end of its input. The kinds are slowKinds, or the arguments that
	// follow.
	roleSlow = "slow"
	// roleServer serves a fake manager that takes a second for each lease, until SIGTERM.
	roleServer = "server"
)

func TestMain(m *testing.M) {
	host.Main(m, map[string]func() error{roleClient: beClient, roleSlow: beSlow, roleServer: beServer})
}

// as returns a command that runs the test binary in a role, as a user.
func as(uid uint32, role string, arguments ...string) *exec.Cmd {
	cmd := host.Again(role, "/proc/self/exe", arguments...) // wherever it lies, each user may run it
	cmd.SysProcAttr = new(syscall.SysProcAttr)
	if uid != 0 {
		cmd.SysProcAttr.Credential = &syscall.Credential{Uid: uid, Gid: uid}
	}
	return cmd
}

// result returns what a client prints.
func result(tb testing.TB, uid uint32, arguments ...string) string {
	tb.Helper()
	cmd := as(uid, roleClient, arguments...)
	cmd.Stderr = os.Stderr
	said, err := cmd.Output()
	if err != nil {
		tb.Fatalf("%s: %v", cmd, err)
	}
	return strings.TrimSpace(string(said))
}

func beClient() error {
	client, err := NewClient("unix:"+os.Args[1], "", "")
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	var l Lease
	switch arguments := os.Args[3:]; os.Args[2] {
	case "take":
		var r Request
		if err := json.Unmarshal([]byte(arguments[0]), &r); err != nil {
			return err
		}
		l, err = client.Take(ctx, r)
	case "renew":
		l, err = client.Renew(ctx, arguments[0])
	case "end":
		l, err = client.End(ctx, arguments[0])
	case "list":
		var all Listing
		all, err = client.Leases(ctx)
		for _, l := range all.Leases {
			fmt.Println(l.UID, l.Key)
		}
	}
	if refused := (*Error)(nil); errors.As(err, &refused) {
		fmt.Println(refused.Status, refused.Message)
		return nil
	}
	if err == nil && l.ID != "" {
		fmt.Println(l.ID, l.UID)
	}
	return err
}

// slowKinds are what slow clients send first.
var slowKinds = []string{
	"",
	"POST /api/v1/leases HTTP/1.1\r\nHost: localhost\r\n",
	"POST /api/v1/leases HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{",
	"GET /api/v1/leases HTTP/1.1\r\nHost: localhost\r\n\r\nGET /", // with the first answer not read
	"POST /api/v1/leases HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n{\r\n",
}

func beSlow() error {
	each, err := strconv.Atoi(os.Args[2])
	if err != nil {
		return err
	}
	kinds := slowKinds
	if len(os.Args) > 3 {
		kinds = os.Args[3:]
	}
	var all []net.Conn
	for range each {
		for _, sent := range kinds {
			conn, err := net.Dial("unix", os.Args[1])
			if err == nil {
				all = append(all, conn)
				_, err = io.WriteString(conn, sent)
			}
			if err != nil && !errors.Is(err, unix.EPIPE) { // it is closed already
				return err
			}
		}
	}
	fmt.Println(host.Ready)
	_, err = io.Copy(io.Discard, os.Stdin)
	for _, conn := range all {
		_ = conn.Close()
	}
	return err
}

func beServer() error {
	ctx, stop := signal.NotifyContext(context.Background(), unix.SIGTERM)
	defer stop()
	server, err := Open(Options{
		Address: "unix:" + os.Args[1], Logger: log.NewNopLogger(), Toolkit: slog.New(slog.DiscardHandler),
		Leases: &fake{taking: func(context.Context) {
			_ = os.WriteFile(os.Args[1]+".taking", nil, 0o600)
			time.Sleep(time.Second)
		}},
	})
	if err != nil {
		return err
	}
	fmt.Println(host.Ready)
	return server.Run(ctx)
}

// connected returns how many connections a socket has on the side of the server.
func connected(tb testing.TB, path string) (count int) {
	tb.Helper()
	text, err := os.ReadFile("/proc/net/unix")
	if err != nil {
		tb.Fatal(err)
	}
	const established = "03" // SS_CONNECTED
	for line := range strings.Lines(string(text)) {
		if fields := strings.Fields(line); len(fields) == 8 && fields[5] == established && fields[7] == path {
			count++
		}
	}
	return count
}

// parallel calls do n times at once.
func parallel(n int, do func(n int)) {
	var all sync.WaitGroup
	for i := range n {
		all.Go(func() { do(i) })
	}
	all.Wait()
}
