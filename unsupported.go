//go:build !linux

package main

import _ "unsafe" // for go:linkname

func main() { unsupported() }

// Its body is on no system, so that the linker reports the name as missing. `go vet` passes.
//
//go:linkname unsupported listen_exporter_runs_only_on_Linux:_build_it_with_GOOS=linux
func unsupported()
