//go:build linux

// Package install runs each command of the README's section Install, in its order, and then make test, in a fresh Debian with empty
// caches.
//
// Debian has Go from this machine, as its own is older, and Podman by the name of docker.
package install

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/listen-exporter/listen_exporter/test/host"
	"github.com/listen-exporter/listen_exporter/test/tools"
)

const (
	minute = time.Minute
	clone  = "/srv/listen_exporter"
	url    = "http://127.0.0.1:10190"
)

// trial is how it is tried what a command of the README has left.
type trial struct {
	command *regexp.Regexp
	serves  bool // the exporter answers after it
	script  string
}

var trials = []trial{
	{regexp.MustCompile(`^go run \.`), true, ""},
	{regexp.MustCompile(`^make build`), false, `.build/linux-$(go env GOARCH)/listen_exporter --version`},
	{regexp.MustCompile(`^make packages`), false, `ls .build/packages/*.deb .build/packages/*.rpm .build/packages/*.apk`},
	{regexp.MustCompile(`^sudo dpkg `), false, `listen_exporter --version && dpkg -V listen-exporter && dpkg -P listen-exporter`},
	{regexp.MustCompile(`^sudo rpm `), false, `listen_exporter --version && rpm -V listen-exporter && rpm -e listen-exporter`},
	{regexp.MustCompile(`^make docker`), false, `docker image ls | grep listen_exporter`},
	{regexp.MustCompile(`^docker run `), true, `docker rm --force --latest`},
	{regexp.MustCompile(`^make test$`), false, ""},
}

// elsewhere are the commands that want a cluster or an Alpine Linux: see test/kubernetes, packaging/helm and test/openrc.
var elsewhere = regexp.MustCompile(`^(helm|kubectl|sudo apk) `)

func TestEachCommandOfInstall(t *testing.T) {
	host.Program(t, "test-install")
	host.NeedRoot(t)
	host.NeedTools(t, "chroot", "git", "tar", "unshare")
	section := regexp.MustCompile("(?s)\n## Install\n.*?```sh\n(.*?)```").FindStringSubmatch(tools.Read(t, filepath.Join(host.Root, "README.md")))
	if section == nil {
		t.Fatal("README.md has no commands under Install")
	}
	tree := freshDebian(t)
	for line := range strings.Lines(section[1] + "make test\n") {
		command, _, _ := strings.Cut(line, "  #")
		command = strings.TrimSpace(command)
		if elsewhere.MatchString(command) {
			continue
		}
		t.Run(command, func(t *testing.T) {
			for _, try := range trials {
				if try.command.MatchString(command) {
					output, err := try.run(tree, command)
					t.Log(output)
					if err != nil {
						t.Error(err)
					}
					return
				}
			}
			t.Error("nobody has written what it leaves")
		})
	}
}

// freshDebian returns the directory of a system with a clone of the repository, and nothing that Go could have cached.
func freshDebian(t *testing.T) string {
	t.Helper()
	system := host.Debian(t, "install", "git", "make", "ca-certificates", "procps", "sudo", "rpm", "podman", "podman-docker", "buildah", "runc",
		"netavark", "golang-github-containers-image") // debootstrap chooses none of two that would do
	tree := filepath.Join(host.OpenDir(t), "tree")
	script := `mkdir "$2" && tar -C "$2" -xf "$1" && cd "$4" && git clone --quiet . "$2$3" &&
		git ls-files -z --cached --others --exclude-standard | xargs -0 tar -c --ignore-failed-read | tar -x -C "$2$3"`
	if _, err := host.Output(2*minute, "sh", "-c", script, "sh", system, tree, clone, host.Root); err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string]string{
		"etc/containers/nodocker":     "",
		"etc/containers/storage.conf": "[storage]\ndriver = \"vfs\"\nrunroot = \"/run/containers\"\ngraphroot = \"/var/lib/containers\"\n",
		"etc/containers/containers.conf": "[containers]\ndefault_ulimits = [\"nofile=4096:4096\", \"nproc=4096:4096\"]\n" +
			"[engine]\nruntime = \"runc\"\ncgroup_manager = \"cgroupfs\"\nevents_logger = \"file\"\n",
		// Debian's rpm asks whether it was meant, and its database knows no package of Debian.
		"usr/local/bin/rpm": "#!/bin/sh\nexec /usr/bin/rpm --force-debian --nodeps \"$@\"\n",
	} {
		path := filepath.Join(tree, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return tree
}

// run runs a command in the system and, when it is done or serves, the script. All that they start ends with them.
func (try trial) run(tree, command string) (output string, err error) {
	goroot, err := host.Output(minute, "go", "env", "GOROOT")
	if err != nil {
		return "", err
	}
	enter := fmt.Sprintf(`set -e; mount --bind %[1]s %[1]s; cd %[1]s; mount -t proc proc proc; mkdir -p usr/local/go
		for dir in sys dev etc/ssl/certs; do mount --rbind /$dir $dir; done; mount --rbind %[2]s usr/local/go
		cp -L /etc/resolv.conf /etc/hosts etc/; exec chroot . bash -c "$1"`, tree, strings.TrimSpace(goroot))
	inside := "cd " + clone + "; " + command
	if try.serves && try.script == "" { // it would not end
		inside += " &"
	}
	inside += "\nstatus=$?; [ $status = 0 ] || exit $status; read -r\n" + try.script
	cmd := exec.Command("unshare", "--mount", "--propagation", "private", "--pid", "--fork", "--kill-child", "sh", "-c", enter, "sh", inside)
	cmd.Env = environment()
	var printed bytes.Buffer
	cmd.Stdout, cmd.Stderr = &printed, &printed
	input, err := cmd.StdinPipe()
	if err != nil {
		return "", err
	}
	if err := cmd.Start(); err != nil {
		return "", err
	}
	timer := time.AfterFunc(15*minute, func() { _ = cmd.Process.Kill() })
	defer timer.Stop()
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	var served error
	if try.serves {
		served = host.Await(10*minute, func() error {
			if len(ended) > 0 {
				return nil
			}
			_, err := host.Get(url + "/metrics")
			return err
		})
	}
	_, _ = input.Write([]byte("\n")) // it goes on, if it has not ended
	err = errors.Join(<-ended, served)
	return printed.String(), err
}

// environment is that of a shell of root, with the way of this machine to modules.
func environment() []string {
	found := []string{
		"HOME=/root", "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:/usr/local/go/bin", "TERM=dumb",
		"BUILDAH_ISOLATION=chroot", "GOTOOLCHAIN=local",
	}
	for _, name := range []string{"GOPROXY", "GOSUMDB", "GONOSUMDB", "GONOPROXY", "GOPRIVATE"} {
		if value, err := host.Output(minute, "go", "env", name); err == nil && strings.TrimSpace(value) != "" {
			found = append(found, name+"="+strings.TrimSpace(value))
		}
	}
	for _, variable := range os.Environ() {
		if name, _, _ := strings.Cut(variable, "="); strings.HasSuffix(strings.ToLower(name), "_proxy") || strings.HasPrefix(name, "SSL_CERT_") {
			found = append(found, variable)
		}
	}
	return found
}
