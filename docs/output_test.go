//go:build linux

package docs

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/listen-exporter/listen_exporter/test/program"
)

// readmeTables are the socket tables of the host that the documents show.
var readmeTables = map[string]string{
	"tcp": `  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 00000000:0016 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 101 1 0000000000000000 100 0 0 10 0
   1: 0A01A8C0:1538 00000000:0000 0A 00000000:00000000 00:00000000 00000000 70005        0 102 1 0000000000000000 100 0 0 10 0
`,
	"tcp6": `  sl  local_address                         remote_address                        st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 00000000000000000000000000000000:0016 00000000000000000000000000000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 103 1 0000000000000000 100 0 0 10 0
   1: 00000000000000000000000000000000:27CE 00000000000000000000000000000000:0000 0A 00000000:00000000 00:00000000 00000000 65534        0 104 1 0000000000000000 100 0 0 10 0
`,
	"udp": `   sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode ref pointer drops
  323: 0100007F:0143 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 105 2 0000000000000000 0
`,
}

// readmeProcesses hold the sockets of readmeTables.
var readmeProcesses = []struct {
	pid, inodes  string
	name, cgroup string
}{
	{"712", "101 103", "sshd", "/system.slice/ssh.service"},
	{"731", "102", "postgres", "/system.slice/postgresql.service"},
	{"745", "104", "listen_exporter", "/system.slice/listen_exporter.service"},
	{"698", "105", "chronyd", "/system.slice/chrony.service"},
}

// readmeFiles are the files that the commands of the documents are given.
var readmeFiles = map[string]string{
	"ports.yml": `---
services:
  - name: ssh
    port: 22
  - name: chrony
    port: 323
    proto: udp
    bind: loopback
  - name: shop
    purpose: the web shop
    port: 443
  - name: postgresql
    purpose: orders
    port: 5432
    bind: loopback
  - name: listen_exporter
    port: 10190
reserved:
  - team: alpha
    ports: 30000-30999
    namespaces: [team-alpha]
  - team: beta
    ports: 31000-31999
    namespaces: [team-beta]
`,
	"team.yml": `---
services:
  - name: orders
    port: 5432
  - name: cache
    prot: udp
    port: 11211
`,
	"chart/shop.yaml": "port: {{ .Values.port }}\n",
	"deploy/shop.yaml": `---
apiVersion: v1
kind: Service
metadata:
  name: shop
  namespace: team-alpha
spec:
  type: NodePort
  ports:
    - port: 30080
      nodePort: 31080
`,
}

// readmeHost makes the host that the documents show, and the directory in which its commands are run. It returns the procfs.
func readmeHost(t *testing.T) (procfs string) {
	t.Helper()
	procfs = t.TempDir()
	write := func(file, text string) {
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for name, text := range readmeTables {
		write(filepath.Join(procfs, "1/net", name), text)
	}
	write(filepath.Join(procfs, "sys/net/ipv6/bindv6only"), "0\n")
	for _, p := range readmeProcesses {
		dir := filepath.Join(procfs, p.pid)
		write(filepath.Join(dir, "comm"), p.name+"\n")
		write(filepath.Join(dir, "cgroup"), "0::"+p.cgroup+"\n")
		write(filepath.Join(dir, "stat"), p.pid+" ("+p.name+") S"+strings.Repeat(" 0", 49)+"\n")
		if err := os.Mkdir(filepath.Join(dir, "fd"), 0o755); err != nil {
			t.Fatal(err)
		}
		for i, inode := range strings.Fields(p.inodes) {
			if err := os.Symlink("socket:["+inode+"]", filepath.Join(dir, "fd", fmt.Sprint(3+i))); err != nil {
				t.Fatal(err)
			}
		}
	}
	dir := t.TempDir()
	for name, text := range readmeFiles {
		write(filepath.Join(dir, name), text)
	}
	t.Chdir(dir)
	return procfs
}

// Each command in docs/commands.md is held to the program.
func TestTheDocumentsShowWhatTheCommandsPrint(t *testing.T) {
	procfs := readmeHost(t)
	examples := regexp.MustCompile("(?s)```console\n\\$ listen_exporter ([^\n]*)\n(.*?)```").FindAllStringSubmatch(read(t, "docs/commands.md"), -1)
	if len(examples) < 4 {
		t.Errorf("docs/commands.md has %d commands, want list, list PORT, audit and check", len(examples))
	}
	for _, example := range examples {
		args := append(strings.Fields(example[1]), "--path.procfs="+procfs, "--collector.source=procfs", "--registry.host=web-1")
		_, stdout, stderr := program.Run(t, args...)
		if diff := cmp.Diff(stdout, example[2]); diff != "" {
			t.Errorf("docs/commands.md differs from the output of %s (-program +document):\n%s\n%s", example[1], diff, stderr)
		}
	}
}

func TestReadmeShowsWhatTheExporterServes(t *testing.T) {
	_, example, _ := strings.Cut(read(t, "README.md"), "| grep host_listen_port{\n")
	example, _, found := strings.Cut(example, "```")
	if !found {
		t.Fatal("README.md shows no metrics")
	}
	served := ""
	for line := range strings.Lines(program.Start(t, "--path.procfs="+readmeHost(t)).Scrape()) {
		if strings.HasPrefix(line, "host_listen_port{") {
			served += line
		}
	}
	if diff := cmp.Diff(served, example); diff != "" {
		t.Errorf("README.md differs from the program (-program +README.md):\n%s", diff)
	}
}

func TestTheDocumentsShowWhatIsRememberedAsTheProgramDoes(t *testing.T) {
	_, example, _ := strings.Cut(read(t, "docs/commands.md"), "```text\n$ list tcp/80\n")
	example, _, _ = strings.Cut(example, "```")
	if shown := read(t, "internal/command/testdata/ports.txt"); example == "" || !strings.Contains(strings.ReplaceAll(shown, `\x1b[0m`, ""), example) {
		t.Errorf("docs/commands.md has\n%s\nwhich is not in internal/command/testdata/ports.txt", example)
	}
}

// readmeState returns a state file of the exporter, with something of each kind in place of what it remembered.
func readmeState(t *testing.T, procfs string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "state")
	exporter := program.Start(t, "--path.procfs="+procfs, "--state.file="+file)
	exporter.Scrape()
	var written []byte
	exporter.Await("the state file", func() (has bool) {
		var err error
		written, err = os.ReadFile(file)
		return err == nil
	})
	exporter.Stop()
	var object map[string]any
	head, body, _ := bytes.Cut(written, []byte("\n"))
	if err := json.Unmarshal(body, &object); err != nil {
		t.Fatal(err)
	}
	object["content"] = json.RawMessage(`{"memory": {
		"ports": [{"proto": "tcp", "port": 22, "since": "2026-11-22T03:00:00Z", "listeners": [{"address": "0.0.0.0"}]}],
		"services": [{"name": "shop", "proto": "tcp", "ports": "443", "down_since": "2026-11-22T03:00:00Z"}],
		"flapping": [{"proto": "tcp", "port": 443, "openings": 5}]
	}}`)
	body, err := json.Marshal(object)
	if err != nil {
		t.Fatal(err)
	}
	head = head[:bytes.LastIndexByte(head, ' ')]
	if err := os.WriteFile(file, fmt.Appendf(nil, "%s %x\n%s", head, sha256.Sum256(body), body), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// overstayed is what an exporter answers that has an overstayed lease.
func overstayed() string {
	return fmt.Sprintf(`{"leases": [{"team": "ci", "name": "job", "proto": "tcp", "ports": [443], "host": "web-1", "expires": %q, "state": "overstayed"}]}`,
		time.Now().Add(time.Hour).Format(time.RFC3339))
}

// jsonFields adds the fields of a JSON value, with those of the objects in it as "object.field".
func jsonFields(value any, prefix string, fields map[string]bool) {
	switch value := value.(type) {
	case []any:
		for _, element := range value {
			jsonFields(element, prefix, fields)
		}
	case map[string]any:
		for name, field := range value {
			fields[prefix+name] = true
			jsonFields(field, prefix+name+".", fields)
		}
	}
}

func TestEveryFieldOfTheJSONIsDocumented(t *testing.T) {
	procfs := readmeHost(t)
	host := []string{"--path.procfs=" + procfs, "--registry.file=ports.yml"}
	udp := filepath.Join(procfs, "1/net/udp")
	for command, runs := range map[string][][]string{
		"list": { // so that each object is there once
			host, {"without UDP"}, append(host[:2:2], "22", "443", "--state.file="+readmeState(t, procfs), "--lease.listen-address="+program.AnswerLeases(t, 200, overstayed())),
		},
		"audit": {host},
		"check": {{"ports.yml", "--manifests=deploy"}, {"team.yml", "--manifests=chart"}},
	} {
		_, section, _ := strings.Cut(read(t, "docs/json.md"), "## The JSON of "+command+"\n")
		section, _, _ = strings.Cut(section, "\n#")
		var documented []string
		for _, row := range regexp.MustCompile(`(?m)^\| (\x60[^|]*) \|`).FindAllStringSubmatch(section, -1) {
			for _, span := range codeSpan.FindAllStringSubmatch(row[1], -1) {
				documented = append(documented, span[1])
			}
		}
		printed := make(map[string]bool)
		for _, args := range runs {
			if args[0] == "without UDP" {
				args = host
				if err := os.Rename(udp, udp+"-"); err != nil {
					t.Fatal(err)
				}
			}
			_, stdout, stderr := program.Run(t, append([]string{command, "--format=json"}, args...)...)
			_ = os.Rename(udp+"-", udp)
			var value map[string]any
			if err := json.Unmarshal([]byte(stdout), &value); err != nil {
				t.Fatalf("%v: %s", err, stderr)
			}
			if manifests, is := value["manifests"].(map[string]any); is {
				manifests["not_checked"] = nil // its fields are kinds
			}
			jsonFields(value, "", printed)
		}
		slices.Sort(documented)
		if diff := cmp.Diff(slices.Sorted(maps.Keys(printed)), documented); diff != "" {
			t.Errorf("fields of the JSON of %s (-printed +documented):\n%s", command, diff)
		}
	}
}
