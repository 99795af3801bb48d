//go:build linux

package server

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
	"weak"

	"github.com/google/go-cmp/cmp"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"github.com/listen-exporter/listen_exporter/internal/inventory"
)

// listeners returns a snapshot with so many listeners. 5000 are much more than what the kernel keeps for a client.
func listeners(count int) *inventory.Snapshot {
	s := new(inventory.Snapshot)
	for n := range count {
		s.Listeners = append(s.Listeners, inventory.Listener{Key: inventory.Key{
			Proto: "tcp", Addr: netip.AddrPortFrom(netip.IPv4Unspecified(), uint16(1+n)), Scope: "wildcard", Range: "user",
		}, Sockets: 1})
	}
	return s
}

const many = 5000

// serve runs a server until the end of the test, and returns its address.
func serve(t *testing.T, o Options) (address string) {
	t.Helper()
	s := newServer(t, o, io.Discard)
	if err := s.Listen(); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	for deadline := time.Now().Add(time.Minute); !s.ready.Load(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the server does not become ready")
		}
	}
	return s.listeners[0].Addr().String()
}

// client is a connection on which one request was made.
type client struct {
	net.Conn
	input *bufio.Reader
}

// ask makes a request on a connection of its own, from a loopback address, with a small receive buffer.
func ask(t *testing.T, from, address, path string, header ...string) *client {
	t.Helper()
	dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}, Control: func(_, _ string, c syscall.RawConn) error {
		return c.Control(func(fd uintptr) { _ = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_RCVBUF, 4096) })
	}}
	conn, err := dialer.DialContext(t.Context(), "tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	lines := append([]string{"GET " + path + " HTTP/1.1", "Host: localhost"}, header...)
	if _, err := io.WriteString(conn, strings.Join(lines, "\r\n")+"\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	return &client{conn, bufio.NewReaderSize(conn, 1024)}
}

// answer returns the answer, of which the header was read.
func (c *client) answer(t *testing.T) *http.Response {
	t.Helper()
	response, err := http.ReadResponse(c.input, nil)
	if err != nil {
		t.Fatal(err)
	}
	return response
}

// whole returns the body of an answer.
func whole(t *testing.T, answer *http.Response) []byte {
	t.Helper()
	content, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Fatalf("the answer ends after %d bytes of %d: %v", len(content), answer.ContentLength, err)
	}
	if int64(len(content)) != answer.ContentLength {
		t.Errorf("%d bytes, want the Content-Length %d", len(content), answer.ContentLength)
	}
	return content
}

// wantCut checks that a client that reads on sees that its answer is not whole.
func wantCut(t *testing.T, answer *http.Response) {
	t.Helper()
	if size, err := io.Copy(io.Discard, answer.Body); err == nil || size >= answer.ContentLength {
		t.Errorf("%d bytes of %d came, error %v: want a part and an error", size, answer.ContentLength, err)
	}
}

func TestOverlappingScrapesGetTheSameBytes(t *testing.T) {
	const clients = 10
	var waiting sync.WaitGroup
	waiting.Add(clients + 1) // with the server's first snapshot, which is another one
	snapshot := listeners(10)
	var first sync.Once
	o := defaults()
	o.Snapshot = func(context.Context) *inventory.Snapshot {
		isFirst := false
		first.Do(func() { isFirst = true })
		waiting.Done()
		if !isFirst {
			waiting.Wait()
		}
		return snapshot
	}
	address := serve(t, o)
	asked := make([]*client, clients)
	for n := range asked {
		asked[n] = ask(t, "127.0.0.1", address, "/metrics")
	}
	bodies := make(map[[sha256.Size]byte]int)
	for _, c := range asked {
		bodies[sha256.Sum256(whole(t, c.answer(t)))]++
	}
	// With metrics of the process, two pages would not be equal.
	if len(bodies) != 1 {
		t.Errorf("%d different answers, want 1", len(bodies))
	}
}

// changing returns options with a snapshot that is another one each time. The last listener of the nth one has the port many + n.
func changing() Options {
	o := defaults()
	var mu sync.Mutex
	count := 0
	o.Snapshot = func(context.Context) *inventory.Snapshot {
		mu.Lock()
		defer mu.Unlock()
		s := listeners(many + count)
		count++
		return s
	}
	o.SnapshotWithProcesses = o.Snapshot
	return o
}

func TestAScrapeIsFreshWhileSlowClientsReadAndWhoFallsBehindIsCutOff(t *testing.T) {
	for _, path := range []string{"/metrics", "/", "/?sort=port", listenersPath} {
		t.Run(path, func(t *testing.T) {
			address := serve(t, changing())
			var answers []*http.Response
			for range 4 { // a third page waits until the clients of the first one have had their time
				answer := ask(t, "127.0.0.1", address, path).answer(t)
				if answer.StatusCode != http.StatusOK {
					t.Fatal(answer.Status)
				}
				answers = append(answers, answer)
			}
			if path == "/metrics" {
				fresh := whole(t, ask(t, "127.0.0.1", address, path+"?name[]=host_listen_port").answer(t))
				if want := fmt.Sprintf(`port="%d"`, many+5); !bytes.Contains(fresh, []byte(want)) {
					t.Errorf("the sixth snapshot's last listener %s is not shown", want)
				}
			}
			wantCut(t, answers[0])
			wantCut(t, answers[1])
		})
	}
}

func TestAClientThatReadsInTimeGetsTheWholePageThoughThereIsANewerOne(t *testing.T) {
	address := serve(t, changing())
	slow := ask(t, "127.0.0.1", address, "/metrics").answer(t)
	newer := ask(t, "127.0.0.1", address, "/metrics").answer(t)
	page := whole(t, slow)
	if !bytes.Contains(page, []byte(fmt.Sprintf(`port="%d"`, many+1))) || bytes.Contains(page, []byte(fmt.Sprintf(`port="%d"`, many+2))) {
		t.Error("the slow client has not got the page of its time")
	}
	whole(t, newer)
}

// blocking returns options with a snapshot that is not there before proceed is closed, but for the first one of the server itself.
// begun counts the requests that wait for it.
func blocking(snapshot *inventory.Snapshot) (o Options, begun chan struct{}, proceed chan struct{}) {
	begun, proceed = make(chan struct{}, 1000), make(chan struct{})
	var first sync.Once
	o = defaults()
	o.Snapshot = func(context.Context) *inventory.Snapshot {
		isFirst := false
		first.Do(func() { isFirst = true })
		if !isFirst {
			begun <- struct{}{}
			<-proceed
		}
		return snapshot
	}
	return o, begun, proceed
}

func TestBeyondTheLimitARequestIsRefusedAtOnce(t *testing.T) {
	o, begun, proceed := blocking(listeners(1))
	o.MaxRequests = 2
	address := serve(t, o)
	var asked []*client
	for range 2 {
		asked = append(asked, ask(t, "127.0.0.1", address, "/metrics"))
		<-begun
	}
	refused := ask(t, "127.0.0.1", address, "/metrics").answer(t)
	if body := whole(t, refused); refused.StatusCode != http.StatusServiceUnavailable || string(body) != "Limit of concurrent requests reached (2), try again later.\n" {
		t.Errorf("%s: %q", refused.Status, body)
	}
	close(proceed)
	for _, c := range asked {
		whole(t, c.answer(t))
	}
}

func TestTheSlowestClientGivesItsPlaceUp(t *testing.T) {
	snapshot := listeners(many)
	o := defaults()
	o.MaxRequests, o.Snapshot = 2, func(context.Context) *inventory.Snapshot { return snapshot }
	address := serve(t, o)
	slowest := ask(t, "127.0.0.1", address, "/metrics").answer(t)
	slow := ask(t, "127.0.0.1", address, "/metrics").answer(t)
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(10 * time.Millisecond) {
		answer := ask(t, "127.0.0.1", address, "/metrics?name[]=listen_exporter_build_info").answer(t)
		if answer.StatusCode == http.StatusOK {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal(answer.Status)
		}
	}
	wantCut(t, slowest)
	whole(t, slow)
}

func TestTheClientsOfOneHostKeepNoOtherOut(t *testing.T) {
	o, begun, proceed := blocking(listeners(1))
	o.MaxRequests = 3
	address := serve(t, o)
	for range 3 {
		ask(t, "127.0.0.1", address, "/metrics")
		<-begun
	}
	if answer := ask(t, "127.0.0.1", address, "/metrics").answer(t); answer.StatusCode != http.StatusServiceUnavailable {
		t.Errorf("the same host: %s", answer.Status)
	}
	other := ask(t, "127.0.0.2", address, "/metrics")
	<-begun
	close(proceed)
	if answer := other.answer(t); answer.StatusCode != http.StatusOK {
		t.Errorf("another host: %s", answer.Status)
	}
}

func TestOfTooManyConnectionsTheQuietestIsClosed(t *testing.T) {
	o, begun, proceed := blocking(listeners(1))
	address := serve(t, o)
	asking := ask(t, "127.0.0.1", address, "/metrics")
	<-begun
	other := ask(t, "127.0.0.2", address, healthyPath)
	whole(t, other.answer(t))
	idle := ask(t, "127.0.0.1", address, healthyPath)
	whole(t, idle.answer(t))
	for range 2 * maxConnections { // the server may learn late that those before are idle
		conn, err := net.Dial("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.Close() })
	}
	_ = idle.SetReadDeadline(time.Now().Add(time.Minute))
	var timeout net.Error
	if _, err := idle.input.ReadByte(); err == nil || errors.As(err, &timeout) && timeout.Timeout() {
		t.Errorf("the idle connection is still open: %v", err)
	}
	if answer := ask(t, "127.0.0.1", address, healthyPath).answer(t); answer.StatusCode != http.StatusOK {
		t.Errorf("a new connection: %s", answer.Status)
	}
	if _, err := io.WriteString(other, "GET "+healthyPath+" HTTP/1.1\r\nHost: localhost\r\n\r\n"); err != nil {
		t.Error(err)
	}
	whole(t, other.answer(t)) // of a host with fewer connections
	close(proceed)
	whole(t, asking.answer(t))
}

func TestEveryAnswerHasItsLength(t *testing.T) {
	snapshot := listeners(10)
	o := defaults()
	o.DisableExporterMetrics = true
	o.Snapshot = func(context.Context) *inventory.Snapshot { return snapshot }
	address := serve(t, o)
	for _, path := range []string{"/metrics", "/metrics?name[]=host_listen_port", "/"} {
		for _, encoding := range []string{"identity", "gzip"} {
			body := whole(t, ask(t, "127.0.0.1", address, path, "Accept-Encoding: "+encoding).answer(t))
			request, err := http.NewRequestWithContext(t.Context(), http.MethodHead, "http://"+address+path, http.NoBody)
			if err != nil {
				t.Fatal(err)
			}
			request.Header.Set("Accept-Encoding", encoding)
			response, err := http.DefaultClient.Do(request)
			if err != nil {
				t.Fatal(err)
			}
			_ = response.Body.Close()
			// The page shows when it was made.
			if response.ContentLength != int64(len(body)) && (path != "/" || encoding == "identity") {
				t.Errorf("HEAD %s, %s: length %d, want %d", path, encoding, response.ContentLength, len(body))
			}
		}
	}
}

func TestFamiliesCanBeChosen(t *testing.T) {
	o := defaults()
	o.Snapshot = func(context.Context) *inventory.Snapshot { return listeners(2) }
	address := serve(t, o)
	for query, want := range map[string][]string{
		"name[]=host_listen_port":                         {"host_listen_port"},
		"name[]=host_listen_port&name[]=go_goroutines":    {"go_goroutines", "host_listen_port"},
		"name[]=host_listen_por":                          {},
		"name%5B%5D=listen_exporter_build_info&name=else": {"listen_exporter_build_info"},
	} {
		families := parse(t, whole(t, ask(t, "127.0.0.1", address, "/metrics?"+query).answer(t)))
		got := []string{}
		for name := range families {
			got = append(got, name)
		}
		slices.Sort(got)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: families (-want +got):\n%s", query, diff)
		}
	}
}

func parse(t *testing.T, text []byte) map[string]*dto.MetricFamily {
	t.Helper()
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	return families
}

func TestProtobufAndTextHaveTheSameData(t *testing.T) {
	snapshot := listeners(100)
	o := defaults()
	o.Snapshot = func(context.Context) *inventory.Snapshot { return snapshot }
	address := serve(t, o)
	text := parse(t, whole(t, ask(t, "127.0.0.1", address, "/metrics").answer(t)))
	answer := ask(t, "127.0.0.1", address, "/metrics", "Accept: "+string(expfmt.NewFormat(expfmt.TypeProtoDelim))).answer(t)
	decoder := expfmt.NewDecoder(bytes.NewReader(whole(t, answer)), expfmt.ResponseFormat(answer.Header))
	for {
		family := new(dto.MetricFamily)
		if err := decoder.Decode(family); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		same := text[family.GetName()]
		if strings.HasPrefix(family.GetName(), "host_listen_") && family.String() != same.String() {
			t.Errorf("%s:\nprotobuf %.1000s\ntext     %.1000s", family.GetName(), family, same)
		} else if same == nil {
			t.Errorf("%s is not in the text", family.GetName())
		}
		delete(text, family.GetName())
	}
	for name := range text {
		t.Errorf("%s is not in protobuf", name)
	}
}

func TestAPanicLeavesThePagesUsable(t *testing.T) {
	var first sync.Once
	handler := handlerOf(func(*inventory.Snapshot) (*body, error) {
		first.Do(func() { panic("the first page") })
		return &body{parts: []*part{{text: []byte("a page")}}}, nil
	})
	func() {
		defer func() {
			if recover() == nil {
				t.Error("no panic")
			}
		}()
		askedWith(t, handler)
	}()
	if body := bodyOf(t, askedWith(t, handler)); body != "a page" {
		t.Errorf("after a panic: %q", body)
	}
}

// Snapshots of a host with many listeners are large.
func TestThoseWhoWaitForAPageHoldNoSnapshot(t *testing.T) {
	const clients = 20
	var mu sync.Mutex
	var taken []weak.Pointer[inventory.Snapshot]
	making, end := make(chan struct{}, clients), make(chan struct{})
	handler := &shared{newPlaces(0), &pages{
		snapshot: func(context.Context) *inventory.Snapshot {
			mu.Lock()
			defer mu.Unlock()
			s := &inventory.Snapshot{Listeners: make([]inventory.Listener, 1)}
			taken = append(taken, weak.Make(s))
			return s
		},
		make: func(*inventory.Snapshot) (content, error) {
			making <- struct{}{}
			<-end
			return func(context.Context, *http.Request, http.Header) (*body, error) { return new(body), nil }, nil
		},
	}}
	var readers sync.WaitGroup
	for range clients {
		readers.Go(func() { askedWith(t, handler) })
	}
	<-making
	count := func() (all, alive int) {
		mu.Lock()
		defer mu.Unlock()
		runtime.GC()
		for _, s := range taken {
			if s.Value() != nil {
				alive++
			}
		}
		return len(taken), alive
	}
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		all, alive := count()
		if all == clients && alive <= 2 { // that of the page that is being made, and the one of the next page
			break
		}
		if time.Now().After(deadline) {
			t.Errorf("of %d snapshots %d are alive, want 2 of %d", all, alive, clients)
			break
		}
	}
	close(end)
	readers.Wait()
}
