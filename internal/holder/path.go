//go:build linux

package holder

import (
	"slices"
	"strings"
)

// origin is what a cgroup's path says about the processes in it. What it does not say is empty.
type origin struct {
	// unit is the system manager's: ssh.service. A name that a user gave comes after the user's own unit or slice:
	// user@1000.service/web.service.
	unit string
	// containerID is the innermost container's, 64 hexadecimal digits, or the name of a container of LXC or Incus.
	containerID string
	// podUID is the innermost pod's: a UUID with dashes, or a static pod's 32 hexadecimal digits.
	podUID string
}

// userSlice holds everything that users run. Below it are cgroups that users name as they like.
const userSlice = "user.slice"

// parsePath parses a path from the root of the cgroup2 hierarchy, or of version 1's name=systemd. Its names may be any
// bytes.
//
// A path that leads out of the reader's cgroup namespace (/../x) does not begin at the root. It only gives a container's id.
// A removed cgroup, which the kernel marks in /proc/<pid>/cgroup, gives nothing.
func parsePath(path string) origin {
	if !strings.HasPrefix(path, "/") || strings.HasSuffix(path, " (deleted)") {
		return origin{}
	}
	names := components(path)
	if len(names) == 0 {
		return origin{}
	}

	var o origin
	pod := 0              // the pod's index in names
	lxc, lxcName := 0, "" // that of a container of LXC that is in no other container
	for i, name := range names {
		if called := lxcContainer(names[:i+1]); called != "" && lxcName == "" && o.containerID == "" {
			lxc, lxcName = i, called
		}
		// In Podman's cgroupfs driver a pod's name is only the id: /libpod_parent/<pod>/libpod-<container>.
		isPodmanPod := i > 0 && names[i-1] == "libpod_parent" && !strings.HasPrefix(name, "libpod-")
		if id := containerID(name); id != "" && !isPodmanPod {
			o.containerID = id
		}
		if uid := podUID(names[:i+1]); uid != "" {
			o.podUID, pod = uid, i
		}
	}
	if slices.Contains(names, "..") {
		return origin{containerID: o.containerID}
	}
	o.unit = systemUnit(names)
	// A user can name a cgroup after any pod or any container of LXC, below the user's own unit and below a service whose cgroup was
	// delegated to that user. Kubernetes puts no pods of the host there, and LXC none of the system's containers.
	isUsers := names[0] == userSlice || strings.HasPrefix(o.unit, "user@")
	delegated := func(index int, to ...string) bool {
		return o.unit != "" && slices.Index(names, o.unit) < index && !slices.Contains(to, template(o.unit))
	}
	if isUsers || delegated(pod, podUnits...) {
		o.podUID = ""
	}
	if o.containerID == "" && !isUsers && !delegated(lxc, lxcUnits...) {
		o.containerID = lxcName
	}
	return o
}

// template returns the unit that an instance is made from: lxc@.service for lxc@web.service.
func template(unit string) string {
	if at := strings.IndexByte(unit, '@'); at >= 0 {
		return unit[:at+1] + unit[strings.LastIndexByte(unit, '.'):]
	}
	return unit
}

// podUnits are the services that have pods below them on some hosts: runtimes, and Kubernetes distributions in one binary.
var podUnits = []string{
	"containerd.service", "crio.service", "docker.service", "k3s.service", "k3s-agent.service", "kubelet.service",
	"rke2-agent.service", "rke2-server.service", "snap.microk8s.daemon-containerd.service", "snap.microk8s.daemon-kubelite.service",
}

// lxcUnits are the services that start the system's containers of LXC, LXD and Incus.
var lxcUnits = []string{"incus.service", "lxc.service", "lxc@.service", "lxd.service", "pve-container@.service", "snap.lxd.daemon.service"}

// lxcContainer returns the name of the container of LXC or Incus whose cgroup the last of names is, if it is one:
//
//	lxc.payload.<name>               LXC 4 and later, Incus, LXD
//	lxc.payload/<name>, lxc/<name>   LXC 3 and earlier, Proxmox VE
//
// The containers' monitors (lxc.monitor.<name>) are no containers.
func lxcContainer(names []string) string {
	last := len(names) - 1
	name, ok := strings.CutPrefix(names[last], "lxc.payload.")
	if !ok && last > 0 && (names[last-1] == "lxc" || names[last-1] == "lxc.payload") {
		name, ok = names[last], true
	}
	const all = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz-._:"
	if !ok || len(name) > maxLXCName || strings.Trim(name, all) != "" {
		return ""
	}
	return name
}

// maxLXCName is more than the 63 characters of an Incus instance and of its project.
const maxLXCName = 128

// components returns the names in a path. systemd puts one underscore before a name that looks like a file of the kernel,
// such as memory.service or tasks (cg_escape, src/basic/cgroup-util.c), and removes it from any name.
func components(path string) []string {
	var names []string
	for name := range strings.SplitSeq(path, "/") {
		if name != "" {
			names = append(names, strings.TrimPrefix(name, "_"))
		}
	}
	return names
}

// systemUnit returns the system manager's unit: the first name that is not a slice. What runs in the unit chose the names below
// it. Of those, only a user's units are shown, after the user's own unit.
func systemUnit(names []string) string {
	name, below := firstInSlices(names)
	if !isUnit(name) {
		return ""
	}
	if above := names[:len(names)-len(below)-1]; len(above) > 0 && above[0] == userSlice && !isSystemdsOwn(above, name) {
		slice := userSlice
		if len(above) > 1 && strings.HasPrefix(above[1], "user-") {
			slice = above[1]
		}
		return slice + "/" + name
	}
	if isUserManager(name) {
		if unit, _ := firstInSlices(below); isUnit(unit) {
			return name + "/" + unit
		}
	}
	return name
}

// firstInSlices returns the first name that is no slice, and the names below it.
func firstInSlices(names []string) (name string, below []string) {
	for i, name := range names {
		if !isUnitName(name, ".slice") {
			return name, names[i+1:]
		}
	}
	return "", nil
}

// isUnit reports whether a cgroup of that name is a unit that says more than the id of the container in it. systemd gives a
// cgroup only to these types of units and to slices (UNIT_HAS_CGROUP_CONTEXT, src/core/unit.h).
func isUnit(name string) bool {
	for _, suffix := range []string{".service", ".socket", ".scope", ".mount", ".swap"} {
		if isUnitName(name, suffix) {
			return containerID(name) == ""
		}
	}
	return false
}

// isUnitName reports whether a unit of that type can have that name in systemd (VALID_CHARS_WITH_AT,
// src/basic/unit-name.c).
func isUnitName(name, suffix string) bool {
	prefix, ok := strings.CutSuffix(name, suffix)
	return ok && prefix != "" && !strings.ContainsFunc(prefix, func(r rune) bool {
		return (r < '0' || r > '9') && (r < 'A' || r > 'Z') && (r < 'a' || r > 'z') && !strings.ContainsRune(`@:-_.\`, r)
	})
}

// isUserManager reports whether systemd runs a user's own systemd in a unit: user@1000.service.
func isUserManager(unit string) bool {
	uid, ok := strings.CutPrefix(strings.TrimSuffix(unit, ".service"), "user@")
	return ok && isDigits(uid)
}

// isSystemdsOwn reports whether systemd itself puts a unit of that name directly in the slice of its user.
func isSystemdsOwn(above []string, name string) bool {
	if len(above) != 2 {
		return false
	}
	uid, ok := strings.CutPrefix(strings.TrimSuffix(above[1], ".slice"), "user-")
	if !ok || !isDigits(uid) {
		return false
	}
	return name == "user@"+uid+".service" || name == "user-runtime-dir@"+uid+".service" ||
		strings.HasPrefix(name, "session-") && strings.HasSuffix(name, ".scope")
}

// containerID returns the id of the container that a cgroup of that name holds, if it holds one:
//
//	<id>                                         cgroupfs drivers: Docker, containerd
//	docker-<id>.scope, libpod-<id>.scope …       systemd drivers
//	crio-<id>, libpod-<id>, libpod-payload-<id>  cgroupfs drivers of CRI-O and podman, podman --cgroups=split (quadlet)
//	system.slice:docker:<id>                     a systemd driver's name, used as it is by a runtime with the cgroupfs driver
//
// The containers' monitors (crio-conmon-<id>.scope, libpod-conmon-<id>.scope) are no containers.
func containerID(name string) string {
	runtime, id := "", name
	if _, rest, ok := strings.Cut(name, ":"); ok {
		runtime, id, _ = strings.Cut(rest, ":")
	} else {
		id = strings.TrimSuffix(name, ".scope")
		if at := strings.LastIndexByte(id, '-'); at >= 0 {
			runtime, id = id[:at], id[at+1:]
		}
	}
	if len(id) != 64 || !isHex(id) {
		return ""
	}
	switch runtime {
	case "", "docker", "cri-containerd", "nerdctl", "crio", "libpod", "libpod-payload":
		return id
	default:
		return ""
	}
}

// podUID returns the uid of a pod if the last of names is a pod's cgroup. The kubelet may have a root of its own:
// /kubelet/kubepods/…, /kubelet.slice/kubelet-kubepods.slice/….
//
//	…/kubepods/pod<uid>, …/kubepods/burstable/pod<uid>             cgroupfs driver
//	…kubepods-pod<uid>.slice, …kubepods-burstable-pod<uid>.slice  systemd driver; each dash of the uid is an underscore
func podUID(names []string) string {
	name, above := names[len(names)-1], names[:len(names)-1]
	if uid, ok := strings.CutPrefix(name, "pod"); ok {
		if n := len(above); n > 0 && (above[n-1] == "burstable" || above[n-1] == "besteffort") {
			above = above[:n-1]
		}
		if n := len(above); n == 0 || above[n-1] != "kubepods" || !isUID(uid) {
			return ""
		}
		return uid
	}

	name, _, _ = strings.Cut(name, ":") // kubepods-pod<uid>.slice:cri-containerd:<id>
	name, ok := strings.CutSuffix(name, ".slice")
	at := strings.LastIndex(name, "-pod")
	if !ok || at < 0 || strings.Contains(name[at+1:], "-") {
		return ""
	}
	parent := strings.TrimSuffix(strings.TrimSuffix(name[:at], "-burstable"), "-besteffort")
	uid := strings.ReplaceAll(name[at+len("-pod"):], "_", "-")
	if parent != "kubepods" && !strings.HasSuffix(parent, "-kubepods") || !isUID(uid) {
		return ""
	}
	return uid
}

// isUID reports whether uid is a UUID, which the API server gives, or an MD5 sum, which the kubelet gives a static pod.
func isUID(uid string) bool {
	if len(uid) == 32 {
		return isHex(uid)
	}
	groups := strings.Split(uid, "-")
	return len(groups) == 5 && len(groups[0]) == 8 && len(groups[1]) == 4 && len(groups[2]) == 4 && len(groups[3]) == 4 &&
		len(groups[4]) == 12 && isHex(strings.Join(groups, ""))
}

func isHex(s string) bool {
	return strings.Trim(s, "0123456789abcdef") == ""
}

func isDigits(s string) bool {
	return s != "" && strings.Trim(s, "0123456789") == ""
}
