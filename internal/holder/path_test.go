//go:build linux

package holder

import (
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// Ids of containers and pods as the runtimes and the kubelet give them.
const (
	ctrA = "c203a2647ef1ad78e990157c50331f3b6ef0b03336cf08535d6bf7faa5421415"
	ctrB = "34dc0b5e626f2c5c4c5170e34b10e7654ce36f0fcd532739f4445baabea03376"
	podA = "72f7f152-440c-66ac-9084-e0fc1d8a910c"
	podB = "5ee43d9c-55fc-11ee-9bdb-0242ac120002"

	staticPod = "187bff14cccb94f179e943eacce55bb3"

	podASlice      = "72f7f152_440c_66ac_9084_e0fc1d8a910c"
	podBSlice      = "5ee43d9c_55fc_11ee_9bdb_0242ac120002"
	user1000       = "/user.slice/user-1000.slice/"
	manager1000    = user1000 + "user@1000.service"
	burstableSlice = "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod" + podASlice + ".slice"
)

type pathCase struct {
	name string
	path string
	want origin
}

var pathCases = []pathCase{
	// systemd's own units.
	{"a system service", "/system.slice/ssh.service", origin{unit: "ssh.service"}},
	{"a socket unit", "/system.slice/cups.socket", origin{unit: "cups.socket"}},
	{"an instance of a template", "/system.slice/system-getty.slice/getty@tty1.service", origin{unit: "getty@tty1.service"}},
	{"an instance of a socket's service", "/system.slice/system-sshd.slice/sshd@0-10.0.2.15:22-10.0.2.2:40310.service", origin{unit: "sshd@0-10.0.2.15:22-10.0.2.2:40310.service"}},
	{"an escaped dash in a slice and in a unit", `/system.slice/system-systemd\x2dfsck.slice/systemd-fsck@dev-disk-by\x2duuid-E155\x2dB0F2.service`, origin{unit: `systemd-fsck@dev-disk-by\x2duuid-E155\x2dB0F2.service`}},
	{"a mount unit", "/system.slice/dev-hugepages.mount", origin{unit: "dev-hugepages.mount"}},
	{"a transient scope", "/system.slice/run-r2d1f0b5f3a0c4f1e.scope", origin{unit: "run-r2d1f0b5f3a0c4f1e.scope"}},
	{"systemd itself", "/init.scope", origin{unit: "init.scope"}},
	{"a service below no slice", "/foo.service", origin{unit: "foo.service"}},
	{"a service that divides its cgroup", "/system.slice/systemd-udevd.service/udev", origin{unit: "systemd-udevd.service"}},
	{"a service that names a cgroup after another service", "/system.slice/web.service/ssh.service", origin{unit: "web.service"}},
	{"a service that names slices and services", "/system.slice/web.service/system.slice/ssh.service", origin{unit: "web.service"}},
	{"a slice alone", "/system.slice", origin{}},
	{"a service of a snap with a quota", "/snap.foo.slice/snap.go-example-webserver.webserver.service", origin{unit: "snap.go-example-webserver.webserver.service"}},

	// systemd's escapes (cg_escape).
	{"a service named after a controller", "/system.slice/_memory.service", origin{unit: "memory.service"}},
	{"a slice named after a controller", "/_cpu.slice/build.service", origin{unit: "build.service"}},
	{"a service that begins with an underscore", "/system.slice/__foo.service", origin{unit: "_foo.service"}},
	{"a user's service named after a controller", manager1000 + "/app.slice/_io.service", origin{unit: "user@1000.service/io.service"}},
	{"a cgroup of a service's own called tasks", "/system.slice/web.service/_tasks", origin{unit: "web.service"}},

	// Users and their units.
	{"a user's session", user1000 + "session-2.scope", origin{unit: "session-2.scope"}},
	{"a user's manager", manager1000, origin{unit: "user@1000.service"}},
	{"a user's manager's own scope", manager1000 + "/init.scope", origin{unit: "user@1000.service/init.scope"}},
	{"a user's runtime directory", user1000 + "user-runtime-dir@1000.service", origin{unit: "user-runtime-dir@1000.service"}},
	{"a user's service", manager1000 + "/app.slice/web.service", origin{unit: "user@1000.service/web.service"}},
	{"a user's socket", manager1000 + "/app.slice/podman.socket", origin{unit: "user@1000.service/podman.socket"}},
	{"a user's service that divides its cgroup", manager1000 + "/app.slice/web.service/worker/ssh.service", origin{unit: "user@1000.service/web.service"}},
	{"an application started by GNOME", manager1000 + `/app.slice/app-gnome-org.gnome.Terminal-3117.scope`, origin{unit: `user@1000.service/app-gnome-org.gnome.Terminal-3117.scope`}},
	{"an autostarted application", manager1000 + `/app.slice/app-at\x2dspi\x2ddbus\x2dbus@autostart.service`, origin{unit: `user@1000.service/app-at\x2dspi\x2ddbus\x2dbus@autostart.service`}},
	{"a flatpak", manager1000 + "/app.slice/app-flatpak-org.gnome.Recipes-273822986.scope", origin{unit: "user@1000.service/app-flatpak-org.gnome.Recipes-273822986.scope"}},
	{"a snap that a user runs", manager1000 + "/app.slice/snap.firefox.firefox-3f6a1f8c-3f1e-4d2b-9a35-1f0a1de7b3a0.scope", origin{unit: "user@1000.service/snap.firefox.firefox-3f6a1f8c-3f1e-4d2b-9a35-1f0a1de7b3a0.scope"}},
	{"a user's cgroup that is no unit", manager1000 + "/mine", origin{unit: "user@1000.service"}},
	{"a user's unit below a cgroup that is no unit", manager1000 + "/mine/ssh.service", origin{unit: "user@1000.service"}},
	{"a user's cgroup whose name no unit can have", manager1000 + "/a \"b\"\n.service", origin{unit: "user@1000.service"}},
	{"a user's slice alone", "/user.slice/user-1000.slice", origin{}},

	// Who poses as the system's.
	{"a user who names a cgroup ssh.service", manager1000 + "/ssh.service", origin{unit: "user@1000.service/ssh.service"}},
	{"a user who names a slice system.slice", manager1000 + "/system.slice/ssh.service", origin{unit: "user@1000.service/ssh.service"}},
	{"a user who names a cgroup user@0.service", manager1000 + "/user@0.service/x.service", origin{unit: "user@1000.service/user@0.service"}},
	{"a service in a user's slice", user1000 + "ssh.service", origin{unit: "user-1000.slice/ssh.service"}},
	{"another user's manager in a user's slice", user1000 + "user@0.service/x.service", origin{unit: "user-1000.slice/user@0.service"}},
	{"another user's runtime directory in a user's slice", user1000 + "user-runtime-dir@0.service", origin{unit: "user-1000.slice/user-runtime-dir@0.service"}},
	{"a session that is no scope", user1000 + "session-2.service", origin{unit: "user-1000.slice/session-2.service"}},
	{"a session in a slice below a user's", user1000 + "user-1000-x.slice/session-2.scope", origin{unit: "user-1000.slice/session-2.scope"}},
	{"a service in the slice of all users", "/user.slice/ssh.service", origin{unit: "user.slice/ssh.service"}},
	{"a session in the slice of all users", "/user.slice/session-2.scope", origin{unit: "user.slice/session-2.scope"}},
	{"a system.slice in the slice of all users", "/user.slice/system.slice/ssh.service", origin{unit: "user.slice/ssh.service"}},
	{"a manager of nobody", "/user.slice/user-.slice/user@.service/x.service", origin{unit: "user-.slice/user@.service"}},
	{"a manager outside of the users' slice", "/system.slice/user@1000.service/ssh.service", origin{unit: "user@1000.service/ssh.service"}},
	{"a manager whose instance is no uid", "/system.slice/user@alice.service/ssh.service", origin{unit: "user@alice.service"}},
	{"a pod of a user's making", manager1000 + burstableSlice + "/x.service", origin{unit: "user@1000.service/x.service"}},
	{"a pod below a service that is delegated to a user", "/system.slice/runner.service/kubepods/burstable/pod" + podA + "/" + ctrA, origin{unit: "runner.service", containerID: ctrA}},
	{"a pod's slice below a service that is delegated to a user", "/system.slice/runner.service/kubepods-pod" + podASlice + ".slice:cri-containerd:" + ctrA, origin{unit: "runner.service", containerID: ctrA}},
	{"a pod below a distribution in one binary", "/system.slice/k3s.service/kubepods/pod" + podA + "/" + ctrA, origin{unit: "k3s.service", containerID: ctrA, podUID: podA}},
	{"a pod below a manager outside of the users' slice", "/system.slice/user@1000.service/kubepods/pod" + podA, origin{unit: "user@1000.service"}},
	{"a service below no slice of systemd's", "/mine/ssh.service", origin{}},
	{"a slice below no slice of systemd's", "/mine/system.slice/ssh.service", origin{}},
	{"a suffix alone", "/system.slice/.service", origin{}},
	{"a name that no unit can have", "/system.slice/a b.service", origin{}},
	{"a slice whose name no unit can have", "/a b.slice/ssh.service", origin{}},
	{"a name of bytes that are not UTF-8", "/system.slice/\xff\xfe.service", origin{}},
	{"a unit of a type that has no cgroup", "/system.slice/apt-daily.timer", origin{}},

	// Kubernetes: kubelet with the systemd driver.
	{"kubelet systemd driver, containerd, burstable", burstableSlice + "/cri-containerd-" + ctrA + ".scope", origin{containerID: ctrA, podUID: podA}},
	{"kubelet systemd driver, containerd, best effort", "/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod" + podASlice + ".slice/cri-containerd-" + ctrA + ".scope", origin{containerID: ctrA, podUID: podA}},
	{"kubelet systemd driver, containerd, guaranteed", "/kubepods.slice/kubepods-pod" + podASlice + ".slice/cri-containerd-" + ctrA + ".scope", origin{containerID: ctrA, podUID: podA}},
	{"kubelet systemd driver, containerd, static pod", "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod" + staticPod + ".slice/cri-containerd-" + ctrA + ".scope", origin{containerID: ctrA, podUID: staticPod}},
	{"kubelet systemd driver, CRI-O", burstableSlice + "/crio-" + ctrA + ".scope", origin{containerID: ctrA, podUID: podA}},
	{"kubelet systemd driver, CRI-O with crun", burstableSlice + "/crio-" + ctrA + ".scope/container", origin{containerID: ctrA, podUID: podA}},
	{"kubelet systemd driver, CRI-O's monitor", burstableSlice + "/crio-conmon-" + ctrA + ".scope", origin{unit: "crio-conmon-" + ctrA + ".scope", podUID: podA}},
	{"kubelet systemd driver, CRI-O's monitor in the system's slice", "/system.slice/crio-conmon-" + ctrA + ".scope", origin{unit: "crio-conmon-" + ctrA + ".scope"}},
	{"kubelet systemd driver, Docker", burstableSlice + "/docker-" + ctrA + ".scope", origin{containerID: ctrA, podUID: podA}},
	{"kubelet systemd driver, a pod's cgroup alone", burstableSlice, origin{podUID: podA}},
	{"kubelet systemd driver, cgroup root container.slice", "/container.slice/container-kubepods.slice/container-kubepods-pod" + podASlice + ".slice/cri-containerd-" + ctrA + ".scope", origin{containerID: ctrA, podUID: podA}},
	{"kubelet systemd driver, containerd without it", "/system.slice/containerd.service/kubepods-burstable-pod" + podASlice + ".slice:cri-containerd:" + ctrA, origin{unit: "containerd.service", containerID: ctrA, podUID: podA}},
	{"kubelet systemd driver, containerd without it, at the root", "/kubepods-besteffort-pod" + podASlice + ".slice:cri-containerd:" + ctrA, origin{containerID: ctrA, podUID: podA}},
	{"kubelet systemd driver, CRI-O without it", "/kubepods-besteffort-pod" + podASlice + ".slice:crio:" + ctrA, origin{containerID: ctrA, podUID: podA}},

	// Kubernetes: kubelet with the cgroupfs driver.
	{"kubelet cgroupfs driver, containerd, burstable", "/kubepods/burstable/pod" + podA + "/" + ctrA, origin{containerID: ctrA, podUID: podA}},
	{"kubelet cgroupfs driver, containerd, best effort", "/kubepods/besteffort/pod" + podA + "/" + ctrA, origin{containerID: ctrA, podUID: podA}},
	{"kubelet cgroupfs driver, containerd, guaranteed", "/kubepods/pod" + podA + "/" + ctrA, origin{containerID: ctrA, podUID: podA}},
	{"kubelet cgroupfs driver, containerd, static pod", "/kubepods/burstable/pod" + staticPod + "/" + ctrA, origin{containerID: ctrA, podUID: staticPod}},
	{"kubelet cgroupfs driver, CRI-O", "/kubepods/burstable/pod" + podA + "/crio-" + ctrA, origin{containerID: ctrA, podUID: podA}},
	{"kubelet cgroupfs driver, CRI-O's monitor", "/kubepods/burstable/pod" + podA + "/crio-conmon-" + ctrA, origin{podUID: podA}},
	{"kubelet of a container runtime's own cgroup", "/podruntime/kubelet", origin{}},

	// Kubernetes within a container.
	{"kind, systemd drivers", "/system.slice/docker-" + ctrA + ".scope/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-besteffort.slice/kubelet-kubepods-besteffort-pod" + podASlice + ".slice/cri-containerd-" + ctrB + ".scope", origin{containerID: ctrB, podUID: podA}},
	{"kind, systemd drivers, guaranteed", "/system.slice/docker-" + ctrA + ".scope/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-pod" + podASlice + ".slice/cri-containerd-" + ctrB + ".scope", origin{containerID: ctrB, podUID: podA}},
	{"kind, the host's Docker with the cgroupfs driver", "/docker/" + ctrA + "/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-burstable.slice/kubelet-kubepods-burstable-pod" + podASlice + ".slice/cri-containerd-" + ctrB + ".scope", origin{containerID: ctrB, podUID: podA}},
	{"kind of old, cgroupfs drivers", "/docker/" + ctrA + "/kubelet/kubepods/besteffort/pod" + podA + "/" + ctrB, origin{containerID: ctrB, podUID: podA}},
	{"kind, the node's own services", "/system.slice/docker-" + ctrA + ".scope/system.slice/containerd.service", origin{containerID: ctrA}},
	{"kind, rootless", manager1000 + "/user.slice/docker-" + ctrA + ".scope/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-pod" + podASlice + ".slice/cri-containerd-" + ctrB + ".scope", origin{unit: "user@1000.service", containerID: ctrB}},
	{"kind with podman", "/machine.slice/libpod-" + ctrA + ".scope/container/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-pod" + podASlice + ".slice/cri-containerd-" + ctrB + ".scope", origin{containerID: ctrB, podUID: podA}},
	{"minikube in Docker, CRI-O", "/docker/" + ctrA + "/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod" + podASlice + ".slice/crio-" + ctrB + ".scope", origin{containerID: ctrB, podUID: podA}},
	{"kind in a pod", burstableSlice + "/cri-containerd-" + ctrA + ".scope/docker/" + ctrB + "/kubelet/kubepods/pod" + podB + "/" + ctrA, origin{containerID: ctrA, podUID: podB}},
	{"Docker in a pod", "/kubepods/burstable/pod" + podA + "/" + ctrA + "/docker/" + ctrB, origin{containerID: ctrB, podUID: podA}},
	{"a pod within a pod, systemd drivers", burstableSlice + "/cri-containerd-" + ctrA + ".scope/kubepods.slice/kubepods-pod" + podBSlice + ".slice/cri-containerd-" + ctrB + ".scope", origin{containerID: ctrB, podUID: podB}},
	{"usernetes, rootless", "/user.slice/user-1001.slice/user@1001.service/u7s-rootlesskit.service/kubepods/burstable/pod" + podA + "/" + ctrA, origin{unit: "user@1001.service/u7s-rootlesskit.service", containerID: ctrA}},

	// Docker and nerdctl.
	{"Docker systemd driver", "/system.slice/docker-" + ctrA + ".scope", origin{containerID: ctrA}},
	{"Docker systemd driver, systemd in the container", "/system.slice/docker-" + ctrA + ".scope/system.slice/ssh.service", origin{containerID: ctrA}},
	{"Docker systemd driver, a slice of the container's choice", "/app.slice/docker-" + ctrA + ".scope/init", origin{containerID: ctrA}},
	{"Docker cgroupfs driver", "/docker/" + ctrA, origin{containerID: ctrA}},
	{"Docker cgroupfs driver, systemd in the container", "/docker/" + ctrA + "/system.slice/ssh.service", origin{containerID: ctrA}},
	{"Docker cgroupfs driver, Debian's cgroup parent", "/" + ctrA, origin{containerID: ctrA}},
	{"Docker in Docker", "/docker/" + ctrA + "/docker/" + ctrB, origin{containerID: ctrB}},
	{"Docker in a service", "/system.slice/docker.service/docker/" + ctrA, origin{unit: "docker.service", containerID: ctrA}},
	{"Docker rootless", "/user.slice/user-1001.slice/user@1001.service/user.slice/docker-" + ctrA + ".scope", origin{unit: "user@1001.service", containerID: ctrA}},
	{"a step of a Docker build", "/system.slice/system.slice:docker:jvifp9a6b1lxa1kuw8bwfcovf", origin{}},
	{"Amazon ECS", "/ecs/0123456789abcdef0123456789abcdef/" + ctrA, origin{containerID: ctrA}},
	{"nerdctl systemd driver", "/system.slice/nerdctl-" + ctrA + ".scope", origin{containerID: ctrA}},
	{"nerdctl cgroupfs driver", "/default/" + ctrA, origin{containerID: ctrA}},

	// podman.
	{"podman systemd driver", "/machine.slice/libpod-" + ctrA + ".scope", origin{containerID: ctrA}},
	{"podman systemd driver, crun", "/machine.slice/libpod-" + ctrA + ".scope/container", origin{containerID: ctrA}},
	{"podman systemd driver, in a pod of its own", "/machine.slice/machine-libpod_pod_" + ctrB + ".slice/libpod-" + ctrA + ".scope/container", origin{containerID: ctrA}},
	{"podman systemd driver, its monitor", "/machine.slice/libpod-conmon-" + ctrA + ".scope", origin{unit: "libpod-conmon-" + ctrA + ".scope"}},
	{"podman cgroupfs driver", "/libpod_parent/libpod-" + ctrA, origin{containerID: ctrA}},
	{"podman cgroupfs driver, old", "/libpod_parent/libpod-" + ctrA + "/ctr", origin{containerID: ctrA}},
	{"podman cgroupfs driver, in a pod of its own", "/libpod_parent/" + ctrB + "/libpod-" + ctrA, origin{containerID: ctrA}},
	{"podman cgroupfs driver, its monitor in a pod of its own", "/libpod_parent/" + ctrB + "/libpod-conmon-" + ctrA, origin{}},
	{"podman quadlet", "/system.slice/web.service/libpod-payload-" + ctrA, origin{unit: "web.service", containerID: ctrA}},
	{"podman quadlet, its monitor", "/system.slice/web.service/runtime", origin{unit: "web.service"}},
	{"podman quadlet in a slice of its own", "/srv.slice/container-homeassistant.service/libpod-payload-" + ctrA, origin{unit: "container-homeassistant.service", containerID: ctrA}},
	{"podman quadlet, systemd in the container", "/system.slice/web.service/libpod-payload-" + ctrA + "/init.scope", origin{unit: "web.service", containerID: ctrA}},
	{"podman rootless", manager1000 + "/user.slice/libpod-" + ctrA + ".scope/container", origin{unit: "user@1000.service", containerID: ctrA}},
	{"podman rootless, in a pod of its own", manager1000 + "/user.slice/user-libpod_pod_" + ctrB + ".slice/libpod-" + ctrA + ".scope/container", origin{unit: "user@1000.service", containerID: ctrA}},
	{"podman rootless, port forwarder", manager1000 + "/user.slice/podman-3117.scope", origin{unit: "user@1000.service/podman-3117.scope"}},
	{"podman rootless quadlet", manager1000 + "/app.slice/web.service/libpod-payload-" + ctrA, origin{unit: "user@1000.service/web.service", containerID: ctrA}},
	{"podman of root in a session", "/user.slice/user-0.slice/session-4.scope/libpod-payload-" + ctrA, origin{unit: "session-4.scope", containerID: ctrA}},

	// Other containers and virtual machines.
	{"systemd-nspawn as a service", `/machine.slice/systemd-nspawn@web.service/payload/system.slice/ssh.service`, origin{unit: "systemd-nspawn@web.service"}},
	{"systemd-nspawn from a shell", "/machine.slice/machine-web.scope/payload/init.scope", origin{unit: "machine-web.scope"}},
	{"a virtual machine of libvirt", `/machine.slice/machine-qemu\x2d1\x2ddebian.scope/libvirt/emulator`, origin{unit: `machine-qemu\x2d1\x2ddebian.scope`}},
	{"LXC", "/lxc.payload.web/system.slice/ssh.service", origin{containerID: "web"}},
	{"LXC 3", "/lxc.payload/web/init.scope", origin{containerID: "web"}},
	{"LXC 2", "/lxc/web/init.scope", origin{containerID: "web"}},
	{"Proxmox VE", "/lxc/101/ns/system.slice/ssh.service", origin{containerID: "101"}},
	{"Proxmox VE's monitor", "/lxc.monitor/101", origin{}},
	{"LXC's monitor", "/lxc.monitor.web", origin{}},
	{"LXC in a service of its own", "/system.slice/lxc@web.service/lxc.payload.web", origin{unit: "lxc@web.service", containerID: "web"}},
	{"Incus with a project", "/lxc.payload.team-a_web/system.slice/ssh.service", origin{containerID: "team-a_web"}},
	{"Docker in LXC", "/lxc.payload.web/system.slice/docker-" + ctrA + ".scope", origin{containerID: ctrA}},
	{"LXC in Docker", "/docker/" + ctrA + "/lxc.payload.db", origin{containerID: ctrA}},
	{"LXC in LXC, which may call it as it likes", "/lxc.payload.web/lxc.payload.db", origin{containerID: "web"}},
	{"LXC of a user", "/user.slice/user-1000.slice/session-4.scope/lxc.payload.db", origin{unit: "session-4.scope"}},
	{"LXC of a user's manager", manager1000 + "/app.slice/lxc.payload.db", origin{unit: "user@1000.service"}},
	{"LXC below a service", "/system.slice/web.service/lxc.payload.db", origin{unit: "web.service"}},
	{"LXC below a service, old", "/system.slice/web.service/lxc/db", origin{unit: "web.service"}},
	{"LXC outside of the cgroup namespace", "/../../lxc.payload.db", origin{}},
	{"LXC without a name", "/lxc.payload./lxc", origin{}},
	{"LXC with a name that it refuses", "/lxc.payload.a\nb", origin{}},
	{"a removed container of LXC", "/lxc.payload.web (deleted)", origin{}},
	{"WSL 2.9", "/wsl-user/distro-214/systemd/system.slice/ssh.service", origin{}},

	// What says nothing.
	{"the root", "/", origin{}},
	{"no path", "", origin{}},
	{"a path that does not begin at the root", "system.slice/ssh.service", origin{}},
	{"a removed cgroup", "/system.slice/ssh.service (deleted)", origin{}},
	{"a removed cgroup of a service's own", "/system.slice/web.service/worker (deleted)", origin{}},
	{"a removed container", "/docker/" + ctrA + " (deleted)", origin{}},
	{"outside of the cgroup namespace", "/../../ssh.service", origin{}},
	{"outside of the cgroup namespace, a slice", "/../system.slice/ssh.service", origin{}},
	{"outside of the cgroup namespace, a pod that may be a user's", "/../../kubepods-burstable-pod" + podASlice + ".slice/cri-containerd-" + ctrA + ".scope", origin{containerID: ctrA}},
	{"outside of the cgroup namespace, within", "/system.slice/../ssh.service", origin{}},
	{"names that are empty", "//system.slice//ssh.service/", origin{unit: "ssh.service"}},
	{"underscores alone", "/_/__", origin{}},
	{"a NUL and a newline", "/a\x00b/c\nd", origin{}},

	// What only looks like a container or a pod.
	{"an id that is too short", "/docker/" + ctrA[1:], origin{}},
	{"an id that is too long", "/docker/" + ctrA + "0", origin{}},
	{"an id in capitals", "/docker/" + strings.ToUpper(ctrA), origin{}},
	{"an id of a runtime that does not exist", "/system.slice/evil-" + ctrA + ".scope", origin{unit: "evil-" + ctrA + ".scope"}},
	{"a service that is called like a container", "/system.slice/docker-" + ctrA + ".service", origin{unit: "docker-" + ctrA + ".service"}},
	{"a pod that is not the kubelet's", "/mine/pod" + podA + "/" + ctrA, origin{containerID: ctrA}},
	{"a pod of another class", "/kubepods/mine/pod" + podA, origin{}},
	{"a pod at the root", "/pod" + podA, origin{}},
	{"a class of pods at the root", "/burstable/pod" + podA, origin{}},
	{"a pod's slice that is not the kubelet's", "/mine.slice/mine-pod" + podASlice + ".slice", origin{}},
	{"a pod's slice whose parent is called almost like the kubelet's", "/mykubepods.slice/mykubepods-pod" + podASlice + ".slice", origin{}},
	{"a pod's slice of another class", "/kubepods.slice/kubepods-mine-pod" + podASlice + ".slice", origin{}},
	{"a pod's uid with dashes in a slice", "/kubepods.slice/kubepods-pod" + podA + ".slice", origin{}},
	{"a pod's uid with underscores in no slice", "/kubepods/pod" + podASlice, origin{}},
	{"a pod's uid in capitals", "/kubepods/pod" + strings.ToUpper(podA), origin{}},
	{"a pod's uid that is too short", "/kubepods/pod" + podA[1:], origin{}},
	{"a pod's uid with its dashes elsewhere", "/kubepods/pod72f7f15-2440c-66ac-9084-e0fc1d8a910c", origin{}},
}

func TestPathSaysWhoRunsInACgroup(t *testing.T) {
	for _, tc := range pathCases {
		t.Run(tc.name, func(t *testing.T) {
			if diff := cmp.Diff(tc.want, parsePath(tc.path), cmp.AllowUnexported(origin{})); diff != "" {
				t.Errorf("parsePath(%q) (-want +got):\n%s", tc.path, diff)
			}
		})
	}
}

func FuzzParsePath(f *testing.F) {
	for _, tc := range pathCases {
		f.Add(tc.path)
	}
	var (
		containerIDs = regexp.MustCompile(`^([0-9a-f]{64}|[A-Za-z0-9._:-]{1,128})?$`)
		podUIDs      = regexp.MustCompile(`^([0-9a-f]{32}|[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12})?$`)
		units        = regexp.MustCompile(`^([A-Za-z0-9@:._\\-]+/)?[A-Za-z0-9@:._\\-]+\.(service|socket|scope|mount|swap)$`)
		ofUsers      = regexp.MustCompile(`^(user@([0-9]+)\.service(/.*)?|user-runtime-dir@[0-9]+\.service|session-.*\.scope|user(-[^/]*)?\.slice/.*)$`)
	)
	f.Fuzz(func(t *testing.T, path string) {
		got := parsePath(path)
		if !containerIDs.MatchString(got.containerID) {
			t.Errorf("parsePath(%q): container %q", path, got.containerID)
		}
		if !podUIDs.MatchString(got.podUID) {
			t.Errorf("parsePath(%q): pod %q", path, got.podUID)
		}
		if got.unit != "" {
			if !units.MatchString(got.unit) {
				t.Errorf("parsePath(%q): unit %q", path, got.unit)
			}
			if name := firstThatIsNoSlice(path); !strings.HasPrefix(got.unit, name) && !strings.HasSuffix(got.unit, ".slice/"+name) {
				t.Errorf("parsePath(%q): unit %q, but systemd named %q", path, got.unit, name)
			}
		}

		// Whatever is below them, a user's cgroup stays the user's, and a container's names nothing of the system's.
		if !strings.HasPrefix(path, "/") {
			return
		}
		for _, users := range []string{"/user.slice", manager1000, "/system.slice/web.service", "/docker/" + ctrA} {
			if below := parsePath(users + path); len(below.containerID) != 0 && len(below.containerID) != 64 {
				t.Errorf("parsePath(%q) below %s: container %q", path, users, below.containerID)
			}
		}
		if below := parsePath("/user.slice" + path); below.podUID != "" || below.unit != "" && !ofUsers.MatchString(below.unit) {
			t.Errorf("parsePath(%q) below user.slice: %+v", path, below)
		}
		if below := parsePath(manager1000 + path); below.podUID != "" ||
			below.unit != "" && below.unit != "user@1000.service" && !strings.HasPrefix(below.unit, "user@1000.service/") {
			t.Errorf("parsePath(%q) below a user's manager: %+v", path, below)
		}
		for _, container := range []string{"/docker/" + ctrA, "/system.slice/docker-" + ctrA + ".scope", "/lxc.payload.web"} {
			if below := parsePath(container + path); below.unit != "" {
				t.Errorf("parsePath(%q) below %s: unit %q", path, container, below.unit)
			}
		}
		if below := parsePath("/system.slice/web.service" + path); below.unit != "" && below.unit != "web.service" {
			t.Errorf("parsePath(%q) below a service: unit %q", path, below.unit)
		}
	})
}

// firstThatIsNoSlice returns the first name in a path that does not end like a slice's, without systemd's escape.
func firstThatIsNoSlice(path string) string {
	for name := range strings.SplitSeq(path, "/") {
		if name != "" && !strings.HasSuffix(name, ".slice") {
			return strings.TrimPrefix(name, "_")
		}
	}
	return ""
}
