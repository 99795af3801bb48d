package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

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

// readmeFiles are the files that the commands of README.md are given.
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
	"draft.yml": `---
services:
  - name: shop
    port: 65536
  - name: cache
    prot: udp
    port: 11211
`,
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

// readmeHost makes the host that README.md shows, and the directory in which its commands are run. It returns the procfs.
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

// TestReadmeShowsWhatTheCommandsPrint holds each example of a command in README.md to the program.
func TestReadmeShowsWhatTheCommandsPrint(t *testing.T) {
	readme := readDocument(t, "README.md")
	procfs := readmeHost(t)
	examples := regexp.MustCompile("(?s)```console\n\\$ "+program+" ([^\n]*)\n(.*?)```").FindAllStringSubmatch(readme, -1)
	if len(examples) < 3 {
		t.Errorf("README.md has %d examples of commands, want list, audit and check", len(examples))
	}
	for _, example := range examples {
		t.Run(example[1], func(t *testing.T) {
			var stdout, stderr bytes.Buffer
			args := append(strings.Fields(example[1]), "--path.procfs="+procfs, "--collector.source=procfs", "--registry.host=web-1")
			run(args, &stdout, &stderr)
			if diff := cmp.Diff(stdout.String(), example[2]); diff != "" {
				t.Errorf("README.md differs from the program (-program +README.md):\n%s\n%s", diff, &stderr)
			}
		})
	}
}

// jsonFields returns the fields of a JSON object of a type, with those of the objects in it as "object.field".
func jsonFields(of reflect.Type, prefix string) []string {
	switch of.Kind() {
	case reflect.Pointer, reflect.Slice:
		return jsonFields(of.Elem(), prefix)
	case reflect.Struct:
	default:
		return nil
	}
	var fields []string
	if of == reflect.TypeFor[time.Time]() {
		return nil
	}
	for field := range of.Fields() {
		name := prefix + field.Tag.Get("json")
		fields = append(fields, name)
		fields = append(fields, jsonFields(field.Type, name+".")...)
	}
	return fields
}

func TestTheReadmeDocumentsEveryFieldOfTheJSON(t *testing.T) {
	_, section, _ := strings.Cut(readDocument(t, "README.md"), "### The JSON of list\n")
	section, _, _ = strings.Cut(section, "\n#")
	var documented []string
	for _, row := range regexp.MustCompile(`(?m)^\| (\x60[^|]*) \|`).FindAllStringSubmatch(section, -1) {
		for _, span := range codeSpan.FindAllStringSubmatch(row[1], -1) {
			documented = append(documented, span[1])
		}
	}
	want := jsonFields(reflect.TypeFor[jsonList](), "")
	slices.Sort(want)
	slices.Sort(documented)
	if diff := cmp.Diff(want, documented); diff != "" {
		t.Errorf("fields of the JSON (-printed +documented):\n%s", diff)
	}
}
