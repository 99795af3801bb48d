//go:build linux

package socket

import (
	"bytes"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"
)

// sockstatFiles are the files below a process's net/ directory in which the kernel counts the sockets of a namespace
// (sockstat_seq_show in net/ipv4/proc.c, sockstat6_seq_show in net/ipv6/proc.c). They cost some microseconds, however many sockets the
// host has.
var sockstatFiles = map[bool]string{false: "sockstat", true: "sockstat6"} // by whether it is IPv6

// isEmpty reports whether the kernel counts no socket in the table below dir. It counts on each CPU, and adds up the counts one after
// the other: while a socket opens on one CPU and another closes on the next, the sum may lack one. A ledger takes a socket for gone
// only after several reads.
func (t table) isEmpty(dir string) bool {
	fd, err := openRegular(filepath.Join(dir, "net", sockstatFiles[t.ipv6]))
	if err != nil {
		return false
	}
	defer func() { _ = unix.Close(fd) }()
	text := make([]byte, usualSysctl)
	n, _ := unix.Read(fd, text)
	used, known := inUse(text[:max(n, 0)], t.file)
	return known && used == 0
}

// signsOf returns a number that changes with signs, and with the sockets that the kernel counts in the files that read returns.
func signsOf(signs uint64, read func(path string) []byte) uint64 {
	texts := map[bool][]byte{false: read("net/" + sockstatFiles[false]), true: read("net/" + sockstatFiles[true])}
	for _, proto := range []Protocol{TCP, UDP} {
		for _, t := range tables[proto] {
			used, _ := inUse(texts[t.ipv6], t.file)
			signs = signs*1_000_003 + used
		}
	}
	return signs
}

// inUse returns how many sockets a table has, from a line such as "TCP6: inuse 3".
func inUse(sockstat []byte, file string) (used uint64, known bool) {
	for line := range bytes.Lines(sockstat) {
		name, counts, _ := bytes.Cut(line, []byte(": inuse "))
		if !bytes.EqualFold(name, []byte(file)) {
			continue
		}
		first, _, _ := bytes.Cut(bytes.TrimSpace(counts), []byte(" "))
		used, err := strconv.ParseUint(string(first), 10, 64)
		return used, err == nil
	}
	return 0, false
}
