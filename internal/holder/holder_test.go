//go:build linux

package holder

import (
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
)

func TestHoldersByFixture(t *testing.T) {
	for _, c := range []struct {
		name string
		make func(x *fixture) Socket
		want []Holder
	}{
		{
			name: "a cgroup that never was",
			make: func(*fixture) Socket { return Socket{ID: 1, Inode: 1000, Cgroup: 1 << 60} },
		},
		{
			name: "inode 0 is nobody's",
			make: func(x *fixture) Socket {
				x.process(100, "server", 0)
				return Socket{ID: 1}
			},
		},
		{
			name: "the kernel's own socket in a unit's cgroup",
			make: func(x *fixture) Socket {
				x.process(100, "nfsdctl")
				return Socket{ID: 1, Inode: 1000, Cgroup: x.group("system.slice/nfs-server.service")}
			},
			want: []Holder{{Unit: "nfs-server.service"}},
		},
		{
			name: "processes of another PID namespace",
			make: func(x *fixture) Socket {
				return Socket{ID: 1, Inode: 1000, Cgroup: x.group("system.slice/a.service", 0, 0)}
			},
			want: []Holder{{Unit: "a.service"}},
		},
		{
			name: "a process in view next to one of another PID namespace",
			make: func(x *fixture) Socket {
				x.process(100, "server")
				return Socket{ID: 1, Inode: 1000, Cgroup: x.group("system.slice/a.service", 0, 100)}
			},
			want: []Holder{{Unit: "a.service"}},
		},
		{
			name: "a process without a name in a cgroup",
			make: func(x *fixture) Socket {
				x.process(100, "server")
				return Socket{ID: 1, Inode: 1000, Cgroup: x.group("system.slice/a.service", 100, 101)}
			},
			want: []Holder{{Unit: "a.service"}},
		},
		{
			name: "a cgroup.procs that is none",
			make: func(x *fixture) Socket {
				id := x.group("system.slice/a.service")
				if err := os.WriteFile(x.groups+"/system.slice/a.service/cgroup.procs", []byte("12\nx\n"), 0o644); err != nil {
					x.t.Fatal(err)
				}
				return Socket{ID: 1, Inode: 1000, Cgroup: id}
			},
			want: []Holder{{Unit: "a.service"}},
		},
		{
			name: "two names share a socket",
			make: func(x *fixture) Socket {
				x.process(100, "b", 1000)
				x.process(101, "a", 1000)
				x.process(102, "a", 1000)
				return Socket{ID: 1, Inode: 1000, UID: 33, Cgroup: x.group("system.slice/a.service", 100, 101, 102)}
			},
			want: []Holder{{Process: "a", Unit: "a.service", UID: 33}, {Process: "b", Unit: "a.service", UID: 33}},
		},
		{
			name: "PID 1 and who serves its socket have one name",
			make: func(x *fixture) Socket {
				x.process(1, "busybox", 1000)
				x.process(100, "busybox", 1000)
				x.write("100/cgroup", "0::/system.slice/b.service\n")
				return Socket{ID: 1, Inode: 1000, Cgroup: x.group("init.scope", 1)}
			},
			want: []Holder{{Process: "busybox", Unit: "b.service"}},
		},
		{
			name: "no cgroup2 hierarchy but systemd's of version 1",
			make: func(x *fixture) Socket {
				x.process(100, "sshd", 1000)
				x.write("100/cgroup", "12:pids:/user.slice/x\n11:memory:/a.service\n1:name=systemd:/system.slice/ssh.service\n")
				return Socket{ID: 1, Inode: 1000}
			},
			want: []Holder{{Process: "sshd", Unit: "ssh.service"}},
		},
		{
			name: "both hierarchies name a unit",
			make: func(x *fixture) Socket {
				x.process(100, "sshd", 1000)
				x.write("100/cgroup", "1:name=systemd:/system.slice/old.service\n0::/system.slice/ssh.service\n")
				return Socket{ID: 1, Inode: 1000}
			},
			want: []Holder{{Process: "sshd", Unit: "ssh.service"}},
		},
		{
			name: "a process of a removed cgroup",
			make: func(x *fixture) Socket {
				x.process(100, "sshd", 1000)
				x.write("100/cgroup", "0::/system.slice/ssh.service (deleted)\n")
				return Socket{ID: 1, Inode: 1000}
			},
			want: []Holder{{Process: "sshd"}},
		},
		{
			name: "a process that died before its name was read",
			make: func(x *fixture) Socket {
				x.process(100, "server", 1000)
				x.remove(x.procfs + "/100/comm")
				x.process(99, "heir", 1000)
				return Socket{ID: 1, Inode: 1000}
			},
			want: []Holder{{Process: "heir"}},
		},
		{
			name: "links that are no sockets",
			make: func(x *fixture) Socket {
				x.process(100, "server")
				for n, target := range []string{
					"socket:[", "socket:[]", "socket:[1000", "socket:[-1000]", "socket:[1000]x", "socket:[1000] (deleted)", "xsocket:[1000]",
					"socket:[18446744073709551616]", "socket:[" + strings.Repeat("0", 100) + "1000]", "/tmp/socket:[1000]", "pipe:[1000]",
				} {
					x.link(100, 10+n, target)
				}
				return Socket{ID: 1, Inode: 1000}
			},
		},
		{
			name: "names that differ only in bytes that are not UTF-8",
			make: func(x *fixture) Socket {
				x.process(100, "x\xff\n\n", 1000)
				x.process(101, "x\xfe\n\n", 1000)
				return Socket{ID: 1, Inode: 1000}
			},
			want: []Holder{{Process: "x\uFFFD\n\n"}},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			x := newFixture(t)
			x.process(2, "bystander", 7)
			s := c.make(x)
			f := x.finder()
			for range 16 {
				x.find(f, []Socket{s, s}, false) // twice is once
				x.want(f, s, c.want...)
			}
		})
	}
}

func TestTheExecutableOfAHolderIsTheBaseNameOfItsFile(t *testing.T) {
	for file, want := range map[string]string{
		"/usr/bin/node":                      "node",
		"/opt/app/node (deleted)":            "node",
		"/usr/bin/passt.avx2":                "passt.avx2",
		"/memfd:runc_cloned:/proc (deleted)": "proc",
		"/opt/a\xffb":                        "a\uFFFDb",
	} {
		x := newFixture(t)
		x.process(100, "MainThread", 1000)
		if err := os.Symlink(file, x.procfs+"/100/exe"); err != nil {
			t.Fatal(err)
		}
		s := Socket{ID: 1, Inode: 1000}
		f := x.finder()
		x.find(f, []Socket{s}, false)
		x.want(f, s, Holder{Process: "MainThread", Executable: want})

		// It starts another program.
		x.remove(x.procfs + "/100/exe")
		if err := os.Symlink("/usr/bin/other", x.procfs+"/100/exe"); err != nil {
			t.Fatal(err)
		}
		x.find(f, []Socket{s}, true)
		x.want(f, s, Holder{Process: "MainThread", Executable: "other"})
	}
}

func TestTheNamesOfASocketAreBounded(t *testing.T) {
	x := newFixture(t)
	for n := range 3 * maxWitnesses {
		x.process(100+n, "p"+strconv.Itoa(n), 1000)
	}
	s := Socket{ID: 1, Inode: 1000}
	f := x.finder()
	x.find(f, []Socket{s}, false)
	if got := len(f.Holders(s)); got != maxWitnesses {
		t.Errorf("%d holders, want %d", got, maxWitnesses)
	}
	// The oldest are among them: whoever opened the socket.
	if !slices.Contains(f.Holders(s), Holder{Process: "p0"}) {
		t.Errorf("the holders are %v, want the oldest", f.Holders(s))
	}
}

func TestSocketsThatAreGoneAreForgotten(t *testing.T) {
	x := newFixture(t)
	x.process(2, "bystander", 7)
	f := x.finder()
	for n := range 1000 {
		x.find(f, []Socket{{ID: uint64(n), Inode: uint64(5000 + n), Cgroup: 1<<60 + uint64(n)}}, false)
	}
	if !x.find(f, nil, false) {
		t.Error("the last socket went, but nothing changed")
	}
	if len(f.known) != 0 || len(f.order) != 0 || len(f.pending) != 0 || len(f.cgroups.removed) != 0 {
		t.Errorf("something is remembered: %d sockets, %d in order, %d pending, %d cgroups",
			len(f.known), len(f.order), len(f.pending), len(f.cgroups.removed))
	}
	if f.Holders(Socket{ID: 1, Inode: 5001}) != nil {
		t.Error("a socket that is gone has holders")
	}
}

func TestWithoutAMountTableProcessesAreStillFound(t *testing.T) {
	x := newFixture(t)
	x.process(100, "server", 1000)
	x.write("100/cgroup", "0::/system.slice/a.service\n")
	x.remove(x.procfs + "/self")
	f, err := New(x.procfs, "/nowhere") // the reader's own mounts say so
	if err == nil || !strings.Contains(err.Error(), "no cgroup2 hierarchy is mounted below /nowhere") {
		t.Errorf("New: %v, want an error that says what is missing where", err)
	}
	s := Socket{ID: 1, Inode: 1000, Cgroup: 1234}
	x.find(f, []Socket{s}, false)
	x.want(f, s, Holder{Process: "server", Unit: "a.service"})
}

func TestAProcessIsTheOldestOfThoseThatAreCalledTheSame(t *testing.T) {
	x := newFixture(t)
	x.process(1, "systemd", 1000)
	x.process(100, "b", 1000)
	x.process(101, "a", 1000)
	x.process(102, "a", 1000)
	s := Socket{ID: 1, Inode: 1000, UID: 33, Cgroup: x.group("system.slice/a.service", 100, 101, 102)}
	f := x.finder()
	x.find(f, []Socket{s}, false)
	var got []string
	for _, p := range f.Processes(s) {
		got = append(got, strconv.Itoa(p.PID)+" "+p.Process)
		if !slices.ContainsFunc(f.Holders(s), p.Called) {
			t.Errorf("%+v is not one of the holders", p)
		}
	}
	slices.Sort(got)
	if want := []string{"100 b", "101 a"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	if got := f.Processes(Socket{ID: 2}); got != nil {
		t.Errorf("of a socket that was not asked for: %v", got)
	}
}
