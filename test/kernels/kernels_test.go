//go:build linux

// Package kernels runs the program on other Linux kernels, in an emulator, against a known table of listeners.
//
// The kernels are Debian's, each from the suite that ships it. They are fetched into .tools/kernels/SUITE by apt, with lists and
// caches of their own, and nothing is installed; remove a directory to fetch it again. Each kernel boots twice, with and without
// the modules of sock_diag, into an initramfs whose init is the test binary: see [beGuest].
package kernels

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/listen-exporter/listen_exporter/test/host"
)

const (
	// allVariable runs all kernels if it is "all". Without it, only the oldest and the newest run.
	allVariable = "LISTEN_EXPORTER_KERNELS"
	// bootVariable is set by the kernel's command line: with, to load the modules of sock_diag, or without.
	bootVariable = "LISTEN_EXPORTER_DIAG_MODULES"
	// bootLimit ends a machine that hangs.
	bootLimit = 2 * time.Minute
	// fetchLimit is for a download on a slow line.
	fetchLimit = 5 * time.Minute
)

// kernel is the kernel of a Debian suite. An empty version is any.
type kernel struct{ suite, version string }

// kernels are those that can be run, from the oldest to the newest. The mirror need not have the last one.
var kernels = []kernel{{"bullseye", "5.10"}, {"bookworm", "6.1"}, {"trixie", "6.12"}, {"sid", ""}}

// modules are those of sock_diag, in the order in which they can be loaded. Not every kernel has them all.
var modules = []string{"inet_diag", "tcp_diag", "udp_diag", "mptcp_diag"}

func TestMain(m *testing.M) {
	boot := os.Getenv(bootVariable)
	if os.Getpid() != 1 || boot == "" {
		os.Exit(m.Run())
	}
	if err := beGuest(boot == "with"); err != nil {
		fmt.Println("guest:", err)
	}
	unix.Sync()
	// The emulator ends with its machine. If it does not, the return of init makes the kernel panic, which ends it too.
	_ = unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF)
}

func TestKernels(t *testing.T) {
	program := host.Program(t, "test-kernels")
	host.NeedTools(t, "cpio", "go", "qemu-system-x86_64")
	init := filepath.Join(t.TempDir(), "init")
	build := exec.Command("go", "test", "-c", "-trimpath", "-o", init, ".")
	build.Env = append(os.Environ(), "CGO_ENABLED=0", "GOARCH=amd64")
	if output, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build the init of the machines: %v\n%s", err, output)
	}
	chosen := kernels
	last := len(kernels) - 1
	if _, err := kernels[last].fetch(); err != nil {
		t.Logf("no newer kernel than %s: %v", kernels[last-1].version, err)
		chosen = kernels[:last]
	}
	if os.Getenv(allVariable) != "all" {
		chosen = []kernel{chosen[0], chosen[len(chosen)-1]}
	}
	for _, k := range chosen {
		t.Run(k.suite, func(t *testing.T) {
			dir, err := k.fetch()
			if err != nil {
				t.Fatal(err)
			}
			initramfs := pack(t, dir, init, program)
			for _, modules := range []string{"with", "without"} {
				t.Run(modules+" the modules of sock_diag", func(t *testing.T) {
					console := boot(t, dir, initramfs, modules)
					if !strings.Contains(console, "ok 1 ") { // nothing of ours has run yet
						t.Logf("the kernel did not come up: once more. It printed:\n%s", console)
						console = boot(t, dir, initramfs, modules)
					}
					host.Replay(t, strings.NewReader(console))
				})
			}
		})
	}
}

// pack makes the initramfs: the init, the program and the modules.
func pack(t *testing.T, kernelDir, init, program string) (file string) {
	t.Helper()
	tree := t.TempDir()
	file = filepath.Join(t.TempDir(), "initramfs")
	err := errors.Join(
		host.Install(init, filepath.Join(tree, "init")),
		host.Install(program, filepath.Join(tree, "listen_exporter")),
		os.Mkdir(filepath.Join(tree, "modules"), 0o755),
	)
	for _, name := range modules {
		from := filepath.Join(kernelDir, name+".ko")
		if _, missing := os.Stat(from); missing == nil {
			err = errors.Join(err, host.Install(from, filepath.Join(tree, "modules", name+".ko")))
		}
	}
	if err == nil {
		_, err = host.Output(time.Minute, "sh", "-c", "cd "+tree+" && find . | cpio --quiet -o -H newc >"+file)
	}
	if err != nil {
		t.Fatal(err)
	}
	return file
}

// boot returns what the machine prints. It is emulated, because not every machine lets its guests have guests. Without
// cmpxchg16b, after which some emulators leave a kernel with wrong flags.
func boot(t *testing.T, kernelDir, initramfs, modules string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), bootLimit)
	defer cancel()
	console, _ := exec.CommandContext(ctx, "qemu-system-x86_64", "-accel", "tcg", "-cpu", "max,-cx16", "-m", "512",
		"-nographic", "-no-reboot", "-nic", "none", "-kernel", filepath.Join(kernelDir, "vmlinuz"), "-initrd", initramfs,
		"-append", "console=ttyS0 panic=-1 quiet loglevel=1 "+bootVariable+"="+modules).CombinedOutput()
	return strings.Map(func(r rune) rune { // the firmware draws
		if r == '\n' || r == '\t' || r >= ' ' && r <= '~' {
			return r
		}
		return -1
	}, string(console))
}

// fetch returns the directory with the kernel, vmlinuz, and its modules.
func (k kernel) fetch() (dir string, err error) {
	dir = filepath.Join(host.Root, ".tools/kernels", k.suite)
	if _, err := os.Stat(filepath.Join(dir, "vmlinuz")); err == nil {
		return dir, nil
	}
	scratch, err := os.MkdirTemp("", "kernels")
	if err != nil {
		return "", err
	}
	defer func() { _ = os.RemoveAll(scratch) }()
	tree, err := k.download(scratch)
	if err != nil {
		return "", fmt.Errorf("fetch the kernel of %s: %w", k.suite, err)
	}
	// Whole or not at all. A newer kernel's modules are compressed.
	script := `set -e; cd "$1"; mkdir kernel; cp "$(find . -name 'vmlinuz*' -type f -print -quit)" kernel/vmlinuz
		for module in $3; do
			file=$(find . -name "$module.ko*" -print -quit)
			case $file in
				*.xz) xz -dc "$file" >"kernel/$module.ko" ;;
				*.zst) zstd -qdc "$file" >"kernel/$module.ko" ;;
				?*) cp "$file" "kernel/$module.ko" ;;
			esac
		done
		mkdir -p "$(dirname "$2")"; cp -r kernel "$2.part"; mv "$2.part" "$2"`
	_, err = host.Output(time.Minute, "sh", "-c", script, "sh", tree, dir, strings.Join(modules, " "))
	return dir, err
}

// download unpacks the packages of the kernel.
func (k kernel) download(scratch string) (tree string, err error) {
	mirror, err := host.Output(time.Minute, filepath.Join(host.Root, ".ci/debian-mirror"))
	if err != nil {
		return "", err
	}
	tree = filepath.Join(scratch, "tree")
	sources := filepath.Join(scratch, "sources.list")
	source := fmt.Sprintf("deb [arch=amd64 signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] %s %s main\n",
		strings.TrimSpace(mirror), k.suite)
	if err := errors.Join(
		os.MkdirAll(filepath.Join(scratch, "state/lists/partial"), 0o755),
		os.MkdirAll(filepath.Join(scratch, "cache/archives/partial"), 0o755),
		os.WriteFile(sources, []byte(source), 0o644),
	); err != nil {
		return "", err
	}
	// root's apt reads as another user, who cannot enter the scratch directory.
	options := []string{"-qq", "-o", "APT::Sandbox::User=root"}
	for _, option := range []string{
		"APT::Architecture=amd64", "Acquire::Languages=none", "APT::Update::Error-Mode=any", "Dir::Etc::sourcelist=" + sources,
		"Dir::Etc::sourceparts=/dev/null", "Dir::Etc::preferencesparts=/dev/null", "Dir::State=" + filepath.Join(scratch, "state"),
		"Dir::State::status=/dev/null", "Dir::Cache=" + filepath.Join(scratch, "cache"),
	} {
		options = append(options, "-o", option)
	}
	if _, err := host.Output(fetchLimit, "apt-get", append(options, "update")...); err != nil {
		return "", err
	}
	// depends returns the packages that a package depends on and whose names match.
	depends := func(name, pattern string) []string {
		text, _ := host.Output(time.Minute, "apt-cache", append(options, "show", "--no-all-versions", name)...)
		line := regexp.MustCompile(`(?m)^Depends: .*$`).FindString(text)
		return regexp.MustCompile(`\b(`+pattern+`)[^ ,]*`).FindAllString(line, -1)
	}
	image := depends("linux-image-cloud-amd64", "linux-image-"+cmp.Or(k.version, "[0-9]"))
	if len(image) != 1 {
		return "", fmt.Errorf("the suite has %q and not Linux %s", image, k.version)
	}
	for _, name := range append(image, depends(image[0], "linux-binary-[0-9]|linux-modules-[0-9]")...) { // newer kernels come in several
		if _, err := host.Output(fetchLimit, "sh", append([]string{"-c", `cd "$0" && apt-get "$@"`, scratch},
			append(options, "download", name)...)...); err != nil {
			return "", err
		}
		if _, err := host.Output(time.Minute, "sh", "-c", `dpkg-deb -x "$0/$1"_*.deb "$0/tree"`, scratch, name); err != nil {
			return "", err
		}
	}
	return tree, nil
}
