//go:build linux

// Command bill writes what a built program is made of: a software bill of materials, and the licence texts that have to go with
// every copy of it.
//
//	go list -deps -json=Dir,Standard,Module . | go run ./packaging/bill -program FILE -sbom FILE -licenses FILE
//
// The modules are those that the program itself names, as `go version -m` does. The list on standard input says where their
// packages are; GOOS, GOARCH and CGO_ENABLED must be those of the program.
package main

import (
	"cmp"
	"crypto/sha256"
	"debug/buildinfo"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"time"
)

func main() {
	if err := run(os.Args[1:], os.Stdin); err != nil {
		_, _ = fmt.Fprintln(os.Stderr, "bill:", err)
		os.Exit(1)
	}
}

func run(args []string, packages io.Reader) error {
	flags := flag.NewFlagSet("bill", flag.ExitOnError)
	path := flags.String("program", "", "the built program")
	version := flags.String("version", "", "its version")
	sbom := flags.String("sbom", "", "write the bill of materials here, as CycloneDX 1.6 in JSON")
	licenses := flags.String("licenses", "", "write the licence texts here")
	if err := flags.Parse(args); err != nil {
		return err
	}
	// As reproducible-builds.org defines it: the time of the commit.
	seconds, err := strconv.ParseInt(os.Getenv("SOURCE_DATE_EPOCH"), 10, 64)
	if err != nil {
		return fmt.Errorf("SOURCE_DATE_EPOCH: %w", err)
	}

	p, err := readProgram(*path, *version)
	if err != nil {
		return err
	}
	directories, err := readPackages(packages)
	if err != nil {
		return err
	}
	if p.parts, err = parts(p.info, directories); err != nil {
		return fmt.Errorf("%s: %w", *path, err)
	}
	bill, err := p.cycloneDX(time.Unix(seconds, 0).UTC())
	if err != nil {
		return err
	}
	if err := os.WriteFile(*sbom, bill, 0o644); err != nil {
		return err
	}
	return os.WriteFile(*licenses, []byte(notices(p.parts)), 0o644)
}

// program is what is known of the built program.
type program struct {
	name, version string
	info          *debug.BuildInfo
	sum           [sha256.Size]byte
	parts         []part
}

func readProgram(path, version string) (program, error) {
	content, err := os.ReadFile(path)
	if err != nil {
		return program{}, err
	}
	info, err := buildinfo.ReadFile(path)
	if err != nil {
		return program{}, err
	}
	return program{name: filepath.Base(path), version: version, info: info, sum: sha256.Sum256(content)}, nil
}

// standard is the name of Go's own library, as vulnerability databases and other bills of materials have it.
const standard = "std"

// module is a module at a version. That of the standard library is Go's, without the "go" in front.
type module struct{ path, version string }

// part is a module that is linked into the program.
type part struct {
	module
	files []licenseFile
}

// readPackages returns the directories of the packages that `go list -deps -json` lists, by their modules. The first of each
// module is the module's own.
func readPackages(list io.Reader) (map[module][]string, error) {
	directories := make(map[module][]string)
	for decoder := json.NewDecoder(list); ; {
		var listed struct {
			Dir      string
			Standard bool
			Module   *struct {
				Path, Version, Dir string
				Main               bool
				Replace            *struct{ Path string }
			}
		}
		if err := decoder.Decode(&listed); errors.Is(err, io.EOF) {
			return directories, nil
		} else if err != nil {
			return nil, fmt.Errorf("the list of packages: %w", err)
		}
		switch m := listed.Module; {
		case listed.Standard:
			// Its packages have no licence but Go's, in the directory above src/.
			key := module{standard, strings.TrimPrefix(runtime.Version(), "go")}
			if root, _, found := strings.Cut(listed.Dir, "/src/"); found && directories[key] == nil {
				directories[key] = []string{root}
			}
		case m == nil:
			return nil, fmt.Errorf("the package in %s belongs to no module", listed.Dir)
		case m.Replace != nil:
			return nil, fmt.Errorf("%s is replaced by %s: a release is built from published modules", m.Path, m.Replace.Path)
		case !m.Main:
			key := module{m.Path, m.Version}
			if directories[key] == nil {
				directories[key] = []string{m.Dir}
			}
			directories[key] = append(directories[key], listed.Dir)
		}
	}
}

// parts returns the parts that the program names. They must be those of the list: otherwise a licence would be missing.
func parts(info *debug.BuildInfo, directories map[module][]string) ([]part, error) {
	linked := []module{{standard, strings.TrimPrefix(info.GoVersion, "go")}}
	for _, dependency := range info.Deps {
		linked = append(linked, module{dependency.Path, dependency.Version})
	}
	order := func(a, b module) int { return cmp.Or(cmp.Compare(a.path, b.path), cmp.Compare(a.version, b.version)) }
	slices.SortFunc(linked, order)
	if listed := slices.SortedFunc(maps.Keys(directories), order); !slices.Equal(linked, listed) {
		return nil, fmt.Errorf("is made of %v, but go list names %v: build it again", linked, listed)
	}
	var found []part
	for _, m := range linked {
		files, err := licenseFiles(directories[m])
		if err != nil {
			return nil, fmt.Errorf("%s: %w", m.path, err)
		}
		found = append(found, part{m, files})
	}
	return found, nil
}
