package holder

// shortID is how many digits of a container's ID name a network namespace: as many as container tools show.
const shortID = 12

// Namer names network namespaces by the processes that live in them.
type Namer struct{ processes }

// NewNamer returns a namer for the processes under the procfs mounted at procfs, and the cgroups under sysfs.
func NewNamer(procfs, sysfs string) *Namer {
	root, _ := findCgroup2(procfs, sysfs) // without it pods are known only outside of a cgroup namespace
	return &Namer{newProcesses(procfs, root)}
}

// Name returns the name of the namespace in which processes live: the UID of their pod, or else the first digits of their
// container's ID or its name, or else "".
func (n *Namer) Name(pids []int) string {
	container := ""
	for _, pid := range pids {
		from, err := n.originOf(pid)
		if err != nil {
			continue
		}
		if from.podUID != "" {
			return from.podUID
		}
		if container == "" && from.containerID != "" {
			container = from.containerID
			if len(container) == 64 && isHex(container) {
				container = container[:shortID]
			}
		}
	}
	return container
}
