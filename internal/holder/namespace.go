package holder

// containerName is how much of a container's ID names a network namespace: as much as the tools of containers show.
const containerName = 12

// Namer names network namespaces by the processes that live in them.
type Namer struct{ processes }

// NewNamer returns a namer for the processes under the procfs mounted at procfs, and the cgroups under sysfs.
func NewNamer(procfs, sysfs string) *Namer {
	root, err := findCgroup2(procfs, sysfs)
	if err != nil {
		root = "" // then the names of pods are known only outside of a cgroup namespace
	}
	return &Namer{newProcesses(procfs, root)}
}

// Name returns the name of the namespace in which processes live: the UID of their pod, else the start of their container's
// ID, else nothing.
func (n *Namer) Name(pids []int) string {
	container := ""
	for _, pid := range pids {
		from, err := n.origin(pid)
		if err != nil {
			continue
		}
		if from.podUID != "" {
			return from.podUID
		}
		if container == "" && from.containerID != "" {
			container = from.containerID[:containerName]
		}
	}
	return container
}
