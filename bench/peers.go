package main

import (
	"bufio"
	"os"
	"os/exec"
	"strings"

	gopsutil "github.com/shirou/gopsutil/v4/net"
)

// commands are the programs that show what listens, without holders. Those that are not there are left out.
func commands() (sides []side) {
	for _, args := range [][]string{{"ss", "-Htuln"}, {"netstat", "-tuln"}, {"lsof", "-nP", "-iTCP", "-sTCP:LISTEN"}} {
		if _, err := exec.LookPath(args[0]); err == nil {
			sides = append(sides, command(args[0], args[1:]...))
		}
	}
	return sides
}

// libraries are ways to find what listens that a helper of this name samples.
var libraries = map[string]func() error{
	"gopsutil, ConnectionsWithoutUids": func() error {
		_, err := gopsutil.ConnectionsWithoutUids("inet")
		return err
	},
	"coroot's way: every line of tcp and tcp6 in /proc/net": readTCPTables,
}

// readTCPTables is the least that coroot-node-agent does for each network namespace: it splits each line of both tables.
func readTCPTables() error {
	for _, name := range []string{"tcp", "tcp6"} {
		file, err := os.Open("/proc/net/" + name)
		if err != nil {
			return err
		}
		lines := bufio.NewScanner(file)
		for lines.Scan() {
			strings.Fields(lines.Text())
		}
		if err := lines.Err(); err != nil {
			return err
		}
		if err := file.Close(); err != nil {
			return err
		}
	}
	return nil
}

// startLibraries starts a helper in this namespace for each of the libraries.
func startLibraries() (sides []side, err error) {
	for _, name := range []string{"gopsutil, ConnectionsWithoutUids", "coroot's way: every line of tcp and tcp6 in /proc/net"} {
		one, err := startHelper(0, "library", name)
		if err != nil {
			return nil, err
		}
		sides = append(sides, side{name, one.sample})
	}
	return sides, nil
}

// startNodeExporter starts node_exporter with one of its collectors, or returns nil where it is not on the PATH.
func startNodeExporter(collector string) (*exporter, error) {
	path, err := exec.LookPath("node_exporter")
	if err != nil {
		return nil, nil
	}
	return startExporter("node_exporter, "+collector+" only", path, "--collector.disable-defaults", "--collector."+collector)
}
