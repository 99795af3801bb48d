package examples

import (
	"bytes"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
)

// binary is the exporter under test, built from the module's root when a test first asks for it.
var binary struct {
	sync.Once
	dir, output string
	err         error
}

func TestMain(m *testing.M) {
	code := m.Run()
	if binary.dir != "" {
		os.RemoveAll(binary.dir)
	}
	os.Exit(code)
}

// exporter returns the path of the binary.
func exporter(t *testing.T) string {
	t.Helper()
	binary.Do(func() {
		if binary.dir, binary.err = os.MkdirTemp("", "listen_exporter-examples-"); binary.err != nil {
			return
		}
		// Whoever the tests run it as must get at it.
		if binary.err = os.Chmod(binary.dir, 0o755); binary.err != nil {
			return
		}
		build := exec.Command("go", "build", "-o", filepath.Join(binary.dir, "listen_exporter"), "..")
		build.Env = append(os.Environ(), "CGO_ENABLED=0")
		var output []byte
		output, binary.err = build.CombinedOutput()
		binary.output = string(output)
	})
	if binary.err != nil {
		t.Fatalf("the exporter does not build: %v\n%s", binary.err, binary.output)
	}
	return filepath.Join(binary.dir, "listen_exporter")
}

// process is an exporter that runs, and what it logged.
type process struct {
	mu  sync.Mutex
	log bytes.Buffer
}

func (p *process) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.log.Write(b)
}

func (p *process) logged() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.log.String()
}

var listeningOn = regexp.MustCompile(`msg="Listening on" .*address=(127\.0\.0\.1:\d+)`)

// start runs a command that becomes an exporter on 127.0.0.1 until the test ends, and returns its address.
func start(t *testing.T, cmd *exec.Cmd) string {
	t.Helper()
	p := &process{}
	cmd.Stdout, cmd.Stderr = p, p
	if err := cmd.Start(); err != nil {
		t.Fatalf("%v: %v", cmd.Args, err)
	}
	ended := make(chan struct{})
	go func() {
		_ = cmd.Wait() // how it ended shows in its log
		close(ended)
	}()
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM) // fails only if it has ended already
		<-ended
		if t.Failed() {
			t.Logf("%v logged:\n%s", cmd.Args, p.logged())
		}
	})
	var address string
	eventually(t, "the exporter names its address", func() bool {
		select {
		case <-ended:
			t.Fatalf("%v ended at once", cmd.Args)
		default:
		}
		if found := listeningOn.FindStringSubmatch(p.logged()); found != nil {
			address = found[1]
		}
		return address != ""
	})
	return address
}

// get returns the status and the body of a page.
func get(t *testing.T, client *http.Client, request *http.Request) (int, string) {
	t.Helper()
	response, err := client.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, string(body)
}

// getOK returns the body of a page, which must be there.
func getOK(t *testing.T, url string) string {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	status, body := get(t, http.DefaultClient, request)
	if status != http.StatusOK {
		t.Fatalf("GET %s: %d\n%s", url, status, body)
	}
	return body
}

// series is one line of /metrics.
type series struct {
	name, labels, value string // labels as they stand between the braces
}

var seriesLine = regexp.MustCompile(`(?m)^([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{(.*)\})? (\S+)$`)

func parseSeries(exposition string) []series {
	var all []series
	for _, found := range seriesLine.FindAllStringSubmatch(exposition, -1) {
		all = append(all, series{name: found[1], labels: found[2], value: found[3]})
	}
	return all
}

// everySeries returns what a running exporter with a registry exports once it has seen a TCP and a UDP listener appear, which
// are not in the registry, so that no metric is missing.
func everySeries(t *testing.T) []series {
	t.Helper()
	address := start(t, exec.Command(exporter(t),
		"--web.listen-address=127.0.0.1:0", "--collector.netns=all", "--collector.udp.ephemeral-min-age=1ms",
		"--registry.file="+exampleRegistry))
	metrics := func() string { return getOK(t, "http://"+address+"/metrics") }
	metrics() // what listens from here on is seen to appear

	ipv6, err := net.Listen("tcp6", "[::1]:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ipv6.Close()
	tcp, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer tcp.Close()
	udp, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	defer udp.Close()

	var exposition string
	eventually(t, "the first_seen of a TCP and of a UDP listener are exported", func() bool {
		exposition = metrics()
		tcpSeen := strings.Contains(exposition, seenBy("tcp", tcp.Addr()))
		udpSeen := strings.Contains(exposition, seenBy("udp", udp.LocalAddr()))
		return tcpSeen && udpSeen
	})
	runtime.KeepAlive(ipv6)
	runtime.KeepAlive(tcp)
	runtime.KeepAlive(udp)
	return parseSeries(exposition)
}

// seenBy returns how the first_seen series of an IPv4 listener on 127.0.0.1 begins, up to its port.
func seenBy(proto string, address net.Addr) string {
	_, port, _ := strings.Cut(address.String(), ":")
	// The labels of an exposition are sorted by name.
	return `host_listen_port_first_seen_timestamp_seconds{address="127.0.0.1",family="ipv4",port="` + port + `",proto="` + proto + `"`
}
