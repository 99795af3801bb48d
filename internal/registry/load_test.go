package registry

import (
	"errors"
	"io/fs"
	"os"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestEachFaultIsOneLineThatSaysWhereAndWhatIsRight(t *testing.T) {
	t.Chdir(t.TempDir())
	const ssh = "---\nservices:\n  - name: ssh\n    port: 22\n"
	for _, test := range []struct{ name, file, want string }{
		{"a file of 50 MB", strings.Repeat("# nothing\n", 5_000_000), "1:1: is larger than 10 MiB: want a shorter file"},
		{"lines that end as on Windows", strings.ReplaceAll(ssh+"    proto: sctp\n", "\n", "\r\n"), `5:12: unknown proto "sctp": want tcp, udp, or a list of both`},
		{"columns are characters", "services: [{name: \"日本\", port: 0}]\n", "1:31: port 0: want a number from 1 to 65535"},
		{"a mapping in JSON", "{\n\t\"services\": [\n\t\t{\"name\": \"a\", \"port\": 70000}\n\t]\n}\n", "3:25: port 70000: want a number from 1 to 65535"},
		{"a key with a hard space", ssh + "    \u00a0bind: any\n", `5:5: unknown key "\u00a0bind": did you mean "bind"?`},
		{"another file altogether", "groups:\n  - name: alerts\n    rules: []\n", `1:1: unknown key "groups": want one of services, reserved`},
		{
			"all at once", ssh + "    bnd: x\n    bind: [10.0.0.300, \"::1/129\"]\n    hosts: ['[']\n  - name: ssh\n    port: 99999\n    proto: sctp\n    required: maybe\n" +
				"  - port: 22\n    process: /usr/bin/x\n    unit: x\nreserved:\n  - team: a\n    ports: 10-1\n  - ports: 3\n",
			`5:5: unknown key "bnd": did you mean "bind"?
6:12: bind "10.0.0.300" is not an address: want any, loopback, private, an address, a CIDR such as 10.0.0.0/8, or a list of them
6:24: bind "::1/129" is not a CIDR: want a length from 0 to 128 after the /
7:13: glob "[" does not parse: want * for any characters, ? for one, [a-z] for one of some, and \ before one that stands for itself
8:11: duplicate service "ssh": already on line 3: want another name
9:11: port 99999: want a number from 1 to 65535
10:12: unknown proto "sctp": want tcp, udp, or a list of both
11:15: required is "maybe": want true or false
12:5: service without a name: want "name: ssh"
13:14: process "/usr/bin/x" is a path: want the name of the process, such as x
14:11: unit "x" has no type: want its full name, such as "x.service"
17:12: port range "10-1" runs backwards: want "1-10"
18:5: reserved range without a team: want "team: alpha"`,
		},
	} {
		write(t, "ports.yml", test.file)
		_, err := Load("ports.yml")
		if err == nil {
			t.Errorf("%s: no fault", test.name)
			continue
		}
		want := "ports.yml:" + strings.ReplaceAll(test.want, "\n", "\nports.yml:")
		if diff := cmp.Diff(want, err.Error()); diff != "" {
			t.Errorf("%s (-want +got):\n%s", test.name, diff)
		}
		faults, ok := errors.AsType[Faults](err)
		if !ok || len(faults.Unwrap()) != 1+strings.Count(want, "\n") || faults.Unwrap()[0].Error() != faults[0].String() {
			t.Errorf("%s: got %T, want each line to be an error", test.name, err)
		}
	}
}

func TestWhatIsNoPlainFileIsReportedOrRead(t *testing.T) {
	t.Chdir(t.TempDir())
	mkdir(t, "ports.yml")
	if _, err := Load("ports.yml"); !errors.Is(err, syscall.EISDIR) || err.Error() != "read the registry: read ports.yml: is a directory" {
		t.Errorf("a directory: %v", err)
	}
	if _, err := Load("none.yml"); !errors.Is(err, fs.ErrNotExist) || err.Error() != "read the registry: open none.yml: no such file or directory" {
		t.Errorf("none: %v", err)
	}
	for device, want := range map[string]string{
		"/dev/zero": "/dev/zero:1:1: is larger than 10 MiB: want a shorter file",
		"/dev/null": "/dev/null:1:1: has no services: want at least services: or reserved:",
	} {
		if _, err := Load(device); err == nil || err.Error() != want {
			t.Errorf("got %v, want %s", err, want)
		}
	}
	if err := syscall.Mkfifo("pipe", 0o600); err != nil {
		t.Fatal(err)
	}
	go func() {
		if err := os.WriteFile("pipe", []byte(one("ssh")), 0o600); err != nil {
			t.Error(err)
		}
	}()
	if r, err := Load("pipe"); err != nil || r.ServiceCount() != 1 {
		t.Errorf("a pipe: %v", err)
	}
}
