//go:build linux && (armbe || arm64be || mips || mips64 || ppc || ppc64 || s390 || s390x || sparc || sparc64)

package event

import _ "embed"

// object is programs/listeners.c, compiled for this byte order by make programs.
//
//go:embed programs/listeners_bpfeb.o
var object []byte

// trafficObject is programs/traffic.c.
//
//go:embed programs/traffic_bpfeb.o
var trafficObject []byte
