//go:build linux

package containers

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/listen-exporter/listen_exporter/test/host"
)

// Names of the cgroups in which the services of pods run.
const (
	podUID           = "52d49e6c-9e54-4602-842c-39b18a3b5a29"
	containerID      = "0c509dd847a611eb3e86fd58354a883fbfd223361ce38e2d7374aac751a69119"
	otherContainerID = "498de02ddd3ad7c901b3c80f96c57db5b3ed9a817dbfab9d16b18be7e7d2d047"
)

// node is the host on which an overlay runs.
type node struct {
	host.Report
	pod       pod
	exact     bool     // the program may see which process holds a socket
	events    bool     // and may load eBPF programs
	added     []string // arguments of the program that the overlay does not have
	configMap string   // the directory of the registry's ConfigMap
	emptyDirs string   // the directory of those of the pod
	run       []string // the arguments of podman run
	id        string   // of the program's container
	pid       string   // of the program
	scratch   string
	page      host.Page
}

// beNode runs an overlay on a host of its own and reports what it checks.
func beNode() error {
	n := &node{added: strings.Fields(os.Getenv(argumentVariable)), scratch: os.Getenv(scratchVariable)}
	manifest, err := os.ReadFile(os.Getenv(manifestVariable))
	if err != nil {
		return err
	}
	var registry string
	if n.pod, registry, err = readOverlay(string(manifest)); err != nil {
		return err
	}
	added := n.pod.Containers[0].SecurityContext.Capabilities.Add
	n.exact, n.events = slices.Contains(added, "SYS_PTRACE"), slices.Contains(added, "BPF")
	configMaps, err := os.MkdirTemp(n.scratch, "configmaps")
	if err != nil {
		return err
	}
	n.configMap = filepath.Join(configMaps, "listen-exporter-registry")
	if err := errors.Join(os.Chmod(configMaps, 0o755), os.Mkdir(n.configMap, 0o755)); err != nil {
		return err
	}
	if n.emptyDirs, err = os.MkdirTemp(n.scratch, "emptydirs"); err != nil {
		return err
	}
	if err := errors.Join(os.Chmod(n.emptyDirs, 0o755), n.makeEmptyDirs()); err != nil {
		return err
	}
	if registry != "" {
		if err := n.project(registry); err != nil {
			return err
		}
	}
	if _, err := host.Output(minute, "ip", "address", "add", nodeIP+"/32", "dev", "lo"); err != nil {
		return err
	}
	if err := n.startServices(); err != nil {
		return err
	}
	n.run = []string{"--cgroup-parent", host.Slice() + "/containers", "--pids-limit", "0"}
	if n.events {
		profile, err := n.seccompProfile()
		if err != nil {
			return err
		}
		n.run = append(n.run, "--security-opt=seccomp="+profile)
	}
	n.run = append(append(n.run, n.pod.podmanArguments(configMaps, n.emptyDirs)...), n.added...)
	if n.id, err = n.podman(append([]string{"run", "--detach", "--name", "listen_exporter"}, n.run...)...); err != nil {
		return err
	}
	if n.pid, err = n.podman("inspect", "--format", "{{.State.Pid}}", "listen_exporter"); err != nil {
		return err
	}
	n.Check(
		host.Check{Name: "it answers", Run: n.scrape},
		host.Check{Name: "user, capabilities and system calls are as the manifest says", Run: n.confinement},
	)
	n.Check(n.inventory()...)
	if n.events {
		n.Check(host.Check{Name: "no listener escapes, however short it lives", Run: n.countsShortListeners})
	}
	if registry != "" {
		n.checkRegistries()
	} else {
		n.Check(host.Check{Name: "without a registry nothing is judged", Run: host.Same(0,
			len(n.page["host_listen_port_registered"].GetMetric())+len(n.page["host_listen_port_violation"].GetMetric()))})
	}
	n.Check(
		host.Check{Name: "what it remembers is written", Run: n.awaits("1", "host_listen_state_last_write_successful")},
		host.Check{Name: "and outlives a restart of the container", Run: func() error {
			_, err := n.podman("restart", "--time", "10", "listen_exporter")
			return errors.Join(err, n.awaits("1", "host_listen_state_loaded")())
		}},
	)
	if registry != "" {
		n.Check(host.Check{Name: "a restart with a bad registry leaves the last good one in force", Run: func() error {
			err := n.project(badRegistry)
			_, err2 := n.podman("restart", "--time", "10", "listen_exporter")
			return errors.Join(err, err2, n.awaits("0", "host_listen_registry_last_reload_successful")(), host.Same(nil, n.verdicts())())
		}})
	}
	n.Check(host.Check{Name: "it ends with status 0 when it is stopped", Run: host.Want("0", func() (string, error) {
		_, err := n.podman("stop", "--time", "10", "listen_exporter")
		status, err2 := n.podman("inspect", "--format", "{{.State.ExitCode}}", "listen_exporter")
		_, err3 := n.podman("rm", "listen_exporter")
		return status, errors.Join(err, err2, err3)
	})})
	if registry != "" {
		n.Check(host.Check{Name: "with a bad registry a new pod does not start: it names the fault and ends with status 1", Run: n.refusesToStart})
	}
	n.End()
	return nil
}

func (n *node) podman(arguments ...string) (string, error) {
	return host.Podman(filepath.Join(n.scratch, "podman"), arguments...)
}

// scrape takes the next page of the program, as soon as it answers.
func (n *node) scrape() error {
	return host.Await(minute, func() (err error) {
		n.page, err = host.Scrape("http://" + nodeIP + ":10190/metrics")
		return err
	})
}

// awaits returns a check's function: the value of a metric without labels must soon be this.
func (n *node) awaits(want, metric string) func() error {
	return func() error {
		return host.Await(minute, func() error { return errors.Join(n.scrape(), host.Same([]string{want}, n.page.Rows(metric))()) })
	}
}

// makeEmptyDirs makes the pod's volumes of this kind as a kubelet does for a new pod.
func (n *node) makeEmptyDirs() (err error) {
	for _, v := range n.pod.Volumes {
		if v.EmptyDir == nil {
			continue
		}
		dir := filepath.Join(n.emptyDirs, v.Name)
		err = errors.Join(err, os.RemoveAll(dir), os.Mkdir(dir, 0o755), os.Chmod(dir, 0o777))
	}
	return err
}

// service is a program on the node. A process that shares its cgroup with another program is only known to those who may look
// at processes.
type service struct {
	cgroup  string // below the slice; / for the root of the hierarchy
	uid     uint32
	name    string
	sockets []string
	isolate bool // in a network of its own
}

const podSlice = "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod52d49e6c_9e54_4602_842c_39b18a3b5a29.slice"

var services = []service{
	{cgroup: "/demo.service", uid: 1000, name: "demo-server", sockets: []string{"tcp/0.0.0.0:8080", "tcp/[::1]:8081"}},
	{cgroup: "/demo.service", uid: 1000, name: "demo-helper"},
	{cgroup: "/single.service", name: "single", sockets: []string{"udp/127.0.0.1:5353"}},
	{cgroup: podSlice + "/cri-containerd-" + containerID + ".scope", uid: 1337, name: "web", sockets: []string{"tcp/[::]:8443", "udp/[::]:4789"}},
	{cgroup: podSlice + "/cri-containerd-" + otherContainerID + ".scope", name: "inner", sockets: []string{"tcp/0.0.0.0:7070"}, isolate: true},
	{cgroup: "/", name: "stray", sockets: []string{"tcp/" + nodeIP + ":9000"}}, // in no unit and no container
}

// holders returns what the program must export of the holders of its own network: proto, address, port, process, unit,
// container_id, pod_uid, uid.
func (n *node) holders() []string {
	rows := []string{fmt.Sprintf("tcp %s 10190 listen_exporter - %s - %d 1", nodeIP, n.id, n.pod.SecurityContext.RunAsUser)}
	process := func(name string) string {
		if n.exact {
			return name
		}
		return "-"
	}
	if n.exact {
		rows = append(rows, "tcp "+nodeIP+" 9000 stray - - - 0 1")
	}
	return append(rows,
		"tcp 0.0.0.0 8080 "+process("demo-server")+" demo.service - - 1000 1",
		"tcp :: 8443 web - "+containerID+" "+podUID+" 1337 1",
		"tcp ::1 8081 "+process("demo-server")+" demo.service - - 1000 1",
		"udp 127.0.0.1 5353 single single.service - - 0 1",
		"udp :: 4789 web - "+containerID+" "+podUID+" 1337 1",
	)
}

func (n *node) startServices() error {
	bin, err := os.MkdirTemp(n.scratch, "bin")
	if err != nil {
		return err
	}
	self := filepath.Join(bin, "self")
	if err := errors.Join(os.Chmod(bin, 0o755), host.Install(os.Args[0], self)); err != nil {
		return err
	}
	for _, s := range services {
		path := filepath.Join(bin, s.name)
		if err := errors.Join(os.Symlink(self, path), s.start(path)); err != nil {
			return fmt.Errorf("start %s: %w", s.name, err)
		}
	}
	return nil
}

func (s *service) start(path string) error {
	dir := "/sys/fs/cgroup"
	if s.cgroup != "/" {
		dir += host.Slice() + s.cgroup
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	cgroup, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer func() { _ = cgroup.Close() }()
	cmd := host.Again("service", path, s.sockets...)
	cmd.SysProcAttr = &syscall.SysProcAttr{
		UseCgroupFD: true, CgroupFD: int(cgroup.Fd()),
		Credential: &syscall.Credential{Uid: s.uid, Gid: s.uid},
	}
	if s.isolate {
		cmd.SysProcAttr.Unshareflags = syscall.CLONE_NEWNET
	}
	_, err = host.StartReady(cmd)
	return err
}

// project puts a registry into the ConfigMap as a kubelet does: ports.yml is a link by way of ..data, itself a link to a new
// directory that takes the place of the old one in one step.
func (n *node) project(registry string) error {
	link := filepath.Join(n.configMap, "..data")
	old, _ := os.Readlink(link)
	dir, err := os.MkdirTemp(n.configMap, "..version_")
	if err != nil {
		return err
	}
	if err := errors.Join(
		os.Chmod(dir, 0o755),
		os.WriteFile(filepath.Join(dir, "ports.yml"), []byte(registry), 0o644),
		os.Symlink(filepath.Base(dir), link+"_tmp"),
		os.Rename(link+"_tmp", link),
	); err != nil {
		return err
	}
	if old == "" {
		return os.Symlink("..data/ports.yml", filepath.Join(n.configMap, "ports.yml"))
	}
	return os.RemoveAll(filepath.Join(n.configMap, old))
}

// confinement checks that the container is as confined as the manifest says: else the other checks show nothing.
func (n *node) confinement() error {
	user, group := strconv.Itoa(n.pod.SecurityContext.RunAsUser), strconv.Itoa(n.pod.SecurityContext.RunAsGroup)
	var mask uint64
	for _, name := range n.pod.Containers[0].SecurityContext.Capabilities.Add {
		mask |= map[string]uint64{
			"SYS_PTRACE": 1 << unix.CAP_SYS_PTRACE, "DAC_READ_SEARCH": 1 << unix.CAP_DAC_READ_SEARCH,
			"BPF": 1 << unix.CAP_BPF, "PERFMON": 1 << unix.CAP_PERFMON,
		}[name]
	}
	added, none := fmt.Sprintf("%016x", mask), fmt.Sprintf("%016x", 0)
	want := map[string]string{
		"CapEff": added, "CapPrm": added, "CapBnd": added, "CapInh": none, "CapAmb": none, "NoNewPrivs": "1", "Seccomp": "2",
		"Uid": strings.Join([]string{user, user, user, user}, "\t"), "Gid": strings.Join([]string{group, group, group, group}, "\t"),
	}
	status, err := os.ReadFile(filepath.Join("/proc", n.pid, "status"))
	if err != nil {
		return err
	}
	got := make(map[string]string)
	for line := range strings.Lines(string(status)) {
		if key, value, _ := strings.Cut(line, ":"); want[key] != "" {
			got[key] = strings.TrimSpace(value)
		}
	}
	return host.Same(want, got)()
}
