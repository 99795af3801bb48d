//go:build linux

package containers

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"slices"

	"github.com/listen-exporter/listen_exporter/test/host"
)

// shortListeners is how many the test opens and closes at once. The watcher, which looks every 5 s, would see none of them.
const shortListeners = 100

// countsShortListeners opens and closes listeners, which the program must count.
func (n *node) countsShortListeners() error {
	return host.CountsShortListeners(shortListeners, func() (host.Page, error) {
		err := n.scrape()
		return n.page, err
	})
}

// seccompProfile writes the default profile of a container runtime that admits bpf() to CAP_BPF, as docs/events.md lists them.
// Podman's own before version 5.2 admits it only to CAP_SYS_ADMIN; the rest of it is the same.
func (n *node) seccompProfile() (file string, err error) {
	path, err := n.podman("info", "--format", "{{.Host.Security.SECCOMPProfilePath}}")
	if err != nil {
		return "", err
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return "", err
	}
	var profile map[string]any
	if err := json.Unmarshal(text, &profile); err != nil {
		return "", err
	}
	rules, _ := profile["syscalls"].([]any)
	for _, rule := range rules {
		rule, _ := rule.(map[string]any)
		if names, _ := rule["names"].([]any); rule["action"] == "SCMP_ACT_ERRNO" {
			rule["names"] = slices.DeleteFunc(names, func(name any) bool { return name == "bpf" })
		}
	}
	profile["syscalls"] = append(rules, map[string]any{
		"names": []string{"bpf"}, "action": "SCMP_ACT_ALLOW", "args": []any{}, "excludes": map[string]any{},
		"includes": map[string]any{"caps": []string{"CAP_BPF"}},
	})
	text, err = json.Marshal(profile)
	file = filepath.Join(n.scratch, "seccomp.json")
	return file, errors.Join(err, os.WriteFile(file, text, 0o644))
}
