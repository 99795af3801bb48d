package kernels

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// The attributes of a sock_diag reply that the program rests on (include/uapi/linux/inet_diag.h).
const (
	attrSKMemInfo = 7
	attrSKV6Only  = 11
	attrCgroupID  = 21
)

// diagRow is a reply of sock_diag: what a kernel gives, read apart from the program's own reader.
type diagRow struct {
	port   uint16
	state  uint8
	inode  uint32
	cookie uint64
	attrs  []uint16
}

// dumpSockets returns the rows of a family's and a protocol's sockets in some states.
func dumpSockets(family, protocol uint8, states uint32) ([]diagRow, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_SOCK_DIAG)
	if err != nil {
		return nil, err
	}
	defer func() { _ = unix.Close(fd) }()
	order := binary.NativeEndian
	request := make([]byte, 16+56) // struct nlmsghdr, struct inet_diag_req_v2
	order.PutUint32(request, uint32(len(request)))
	order.PutUint16(request[4:], unix.SOCK_DIAG_BY_FAMILY)
	order.PutUint16(request[6:], unix.NLM_F_REQUEST|unix.NLM_F_DUMP)
	request[16], request[17], request[18] = family, protocol, 1<<(attrSKMemInfo-1)
	order.PutUint32(request[20:], states)
	if err := unix.Sendto(fd, request, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return nil, err
	}
	var rows []diagRow
	buffer := make([]byte, 64<<10)
	for {
		n, _, err := unix.Recvfrom(fd, buffer, 0)
		if err != nil {
			return nil, err
		}
		for rest := buffer[:n]; len(rest) >= 16; {
			message := rest[:order.Uint32(rest)]
			rest = rest[(len(message)+3)&^3:]
			switch kind := order.Uint16(message[4:]); kind {
			case unix.NLMSG_DONE:
				return rows, nil
			case unix.SOCK_DIAG_BY_FAMILY:
				rows = append(rows, parseRow(message[16:]))
			default:
				return nil, fmt.Errorf("netlink message of the type %d: % x", kind, message)
			}
		}
	}
}

// parseRow reads a struct inet_diag_msg and the types of the attributes behind it.
func parseRow(reply []byte) diagRow {
	row := diagRow{
		state:  reply[1],
		port:   binary.BigEndian.Uint16(reply[4:]),
		cookie: binary.NativeEndian.Uint64(reply[44:]),
		inode:  binary.NativeEndian.Uint32(reply[68:]),
	}
	for attrs := reply[72:]; len(attrs) >= 4; {
		row.attrs = append(row.attrs, binary.NativeEndian.Uint16(attrs[2:]))
		length := (int(binary.NativeEndian.Uint16(attrs)) + 3) &^ 3
		attrs = attrs[min(length, len(attrs)):]
	}
	return row
}

// dumps are the four that the program makes.
var dumps = []struct {
	name             string
	family, protocol uint8
	states           uint32
}{
	{"tcp", unix.AF_INET, unix.IPPROTO_TCP, 1 << 10}, // LISTEN
	{"tcp6", unix.AF_INET6, unix.IPPROTO_TCP, 1 << 10},
	{"udp", unix.AF_INET, unix.IPPROTO_UDP, 1 << 7}, // CLOSE
	{"udp6", unix.AF_INET6, unix.IPPROTO_UDP, 1 << 7},
}

func checkAttributes(g *guest) error {
	var errs []error
	missing := make(map[uint16]bool)
	for _, d := range dumps {
		rows, err := dumpSockets(d.family, d.protocol, d.states)
		if err != nil || len(rows) == 0 {
			return fmt.Errorf("dump %s: %d rows: %w", d.name, len(rows), err)
		}
		wanted := []uint16{attrSKMemInfo, attrCgroupID}
		if d.family == unix.AF_INET6 {
			wanted = append(wanted, attrSKV6Only)
		}
		for _, row := range rows {
			for _, attr := range wanted {
				if !slices.Contains(row.attrs, attr) {
					missing[attr] = true
					errs = append(errs, fmt.Errorf("%s: no attribute %d in %+v", d.name, attr, row))
				}
			}
		}
	}
	g.fact("SKMEMINFO %t", !missing[attrSKMemInfo])
	g.fact("SKV6ONLY %t", !missing[attrSKV6Only])
	g.fact("CGROUP_ID %t", !missing[attrCgroupID])
	return errors.Join(errs...)
}

// printMPTCPRows shows what the kernel says of MPTCP listeners: one row each, with the inode that the owner sees.
func printMPTCPRows() {
	ports := make(map[uint16]bool)
	for _, l := range known {
		if l.network == "mptcp" {
			ports[l.port()] = true
		}
	}
	for _, d := range dumps[:2] {
		text, err := os.ReadFile("/proc/net/" + d.name)
		if err != nil {
			fmt.Println(comment(err.Error()))
		}
		for line := range strings.Lines(string(text)) {
			for port := range ports {
				if strings.Contains(line, fmt.Sprintf(":%04X ", port)) {
					fmt.Println(comment("mptcp: /proc/net/" + d.name + " " + line))
				}
			}
		}
		rows, _ := dumpSockets(d.family, d.protocol, d.states)
		for _, row := range rows {
			if ports[row.port] {
				fmt.Println(comment(fmt.Sprintf("mptcp: sock_diag %s %+v", d.name, row)))
			}
		}
	}
}
