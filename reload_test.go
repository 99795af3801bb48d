package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// registryOf returns a registry by which some of the ports of newProcfs should listen, and the others should not. What one of
// them declares the other does not.
func registryOf(version string) string {
	switch version {
	case "a":
		return "services:\n  - {name: a-ssh, port: 22}\n  - {name: a-proxy, port: 8080, bind: loopback}\n  - {name: a-gone, port: 7777}\n"
	default:
		return "services:\n  - {name: b-web, port: 443}\n  - {name: b-dns, port: 53, proto: udp}\n  - {name: b-lost, port: 7778}\n"
	}
}

// saidBy is what a page says while a registry of registryOf is in force.
func saidBy(version string) []string {
	if version == "a" {
		return []string{"a-gone 0", "a-proxy 1", "a-ssh 1", "tcp 22 1", "tcp 443 0", "tcp 8080 1", "udp 53 0", "udp 546 0"}
	}
	return []string{"b-dns 1", "b-lost 0", "b-web 1", "tcp 22 0", "tcp 443 1", "tcp 8080 0", "udp 53 1", "udp 546 0"}
}

func put(t *testing.T, file, content string) {
	t.Helper()
	if err := os.WriteFile(file, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}

func must(t *testing.T, errs ...error) {
	t.Helper()
	for _, err := range errs {
		if err != nil {
			t.Fatal(err)
		}
	}
}

// renameOver puts a file in the place of another in one step.
func renameOver(t *testing.T, file, content string) {
	t.Helper()
	put(t, file+".new", content)
	must(t, os.Rename(file+".new", file))
}

// startJudged starts the program on the host of newProcfs.
func startJudged(t *testing.T, file string, args ...string) *exporter {
	t.Helper()
	return startExporter(t, append(args, "--path.procfs="+newProcfs(t), "--collector.source=procfs", "--registry.file="+file, "--registry.host=web-1")...)
}

// said returns what a page says by the registry, as saidBy does.
func said(found map[string]string) []string {
	lines := []string{}
	for series, value := range found {
		switch name, _, _ := strings.Cut(series, "{"); name {
		case "host_listen_service_up":
			lines = append(lines, label(series, "service_name")+" "+value)
		case "host_listen_port_registered":
			lines = append(lines, label(series, "proto")+" "+label(series, "port")+" "+value)
		}
	}
	slices.Sort(lines)
	return lines
}

const (
	reloadedGauge   = "host_listen_registry_last_reload_successful"
	reloadedAtGauge = "host_listen_registry_last_reload_success_timestamp_seconds"
	registrySuccess = `host_listen_collector_success{collector="registry"}`
)

// wantJudged scrapes, and returns when the registry was taken over.
func (e *exporter) wantJudged(when, version, reloaded string) (at string) {
	e.t.Helper()
	start := time.Now()
	found := samples(e.t, e.scrape())
	if took := time.Since(start); took > patience/4 {
		e.t.Errorf("%s: the scrape took %s", when, took)
	}
	if diff := cmp.Diff(saidBy(version), said(found)); diff != "" {
		e.t.Errorf("%s (-want +got):\n%s", when, diff)
	}
	// The last good registry is in force: that the file is bad is told by one gauge alone.
	if found[reloadedGauge] != reloaded || found[registrySuccess] != "1" {
		e.t.Errorf("%s: reloaded %q, want %s, and success %q, want 1", when, found[reloadedGauge], reloaded, found[registrySuccess])
	}
	return found[reloadedAtGauge]
}

// awaitBad scrapes until the registry's file counts as bad, which takes a second: it could be half-written.
func (e *exporter) awaitBad(what string) {
	e.t.Helper()
	e.await(what+": the file to be bad", func() bool { return samples(e.t, e.scrape())[reloadedGauge] == "0" })
}

func TestANewRegistryIsTakenOverHoweverItComes(t *testing.T) {
	file := filepath.Join(t.TempDir(), "ports.yml")
	put(t, file, registryOf("a"))
	e := startJudged(t, file)
	e.wantJudged("at the start", "a", "1")
	for _, change := range []struct {
		name string
		do   func(content string)
	}{
		{"written in place", func(content string) { put(t, file, content) }},
		{"renamed over", func(content string) { renameOver(t, file, content) }},
		{"removed and put back", func(content string) {
			must(t, os.Remove(file))
			put(t, file, content)
		}},
		{"of the same size and time of modification", func(content string) {
			// Both versions are as long as the longer of them.
			at := time.Unix(1e9, 0)
			put(t, file, content+strings.Repeat("#", 500-len(content)))
			must(t, os.Chtimes(file, at, at))
		}},
		{"a link to another file", func(content string) {
			target := filepath.Join(filepath.Dir(file), fmt.Sprintf("ports-%d.yml", len(content)))
			put(t, target, content)
			must(t, os.Remove(file), os.Symlink(target, file))
		}},
	} {
		for _, version := range []string{"b", "a"} {
			change.do(registryOf(version))
			e.wantJudged(change.name, version, "1")
			e.wantJudged(change.name+", at the next scrape", version, "1")
		}
		must(t, os.Remove(file))
		put(t, file, registryOf("a"))
		e.wantJudged("behind: "+change.name, "a", "1")
	}
	if lines := e.errorLines(); len(lines) > 0 {
		t.Errorf("logged %q", lines)
	}
}

// swapConfigMap makes a version of a ConfigMap's volume the present one, as the kubelet does, which then removes the old one.
func swapConfigMap(t *testing.T, dir, version, content string) {
	t.Helper()
	data := filepath.Join(dir, "..data")
	old, err := os.Readlink(data)
	must(t, os.Mkdir(filepath.Join(dir, version), 0o755))
	put(t, filepath.Join(dir, version, "ports.yml"), content)
	must(t, os.Symlink(version, data+"_tmp"), os.Rename(data+"_tmp", data))
	if err != nil { // the first one
		must(t, os.Symlink("..data/ports.yml", filepath.Join(dir, "ports.yml")))
		return
	}
	must(t, os.RemoveAll(filepath.Join(dir, old)))
}

func TestAConfigMapThatIsSwappedIsTakenOver(t *testing.T) {
	dir := t.TempDir()
	swapConfigMap(t, dir, "..2026_01_01", registryOf("a"))
	e := startJudged(t, filepath.Join(dir, "ports.yml"))
	e.wantJudged("at the start", "a", "1")
	for i, version := range []string{"b", "a", "b"} {
		swapConfigMap(t, dir, fmt.Sprintf("..2026_01_0%d", i+2), registryOf(version))
		e.wantJudged("swapped", version, "1")
	}
	swapConfigMap(t, dir, "..2026_01_09", "services:\n  - {name: a, port: 0}\n")
	e.awaitBad("swapped for a bad one")
	e.wantJudged("swapped for a bad one", "b", "0")
	swapConfigMap(t, dir, "..2026_01_10", registryOf("a"))
	e.wantJudged("mended", "a", "1")
	if lines := e.errorLines(); len(lines) != 1 {
		t.Errorf("logged %q, want one line for the bad one", lines)
	}
}

func TestABadFileLeavesTheLastGoodRegistryInForce(t *testing.T) {
	file := filepath.Join(t.TempDir(), "ports.yml")
	put(t, file, registryOf("a"))
	e := startJudged(t, file)
	at := e.wantJudged("at the start", "a", "1")
	inForce := "a"
	for _, bad := range []struct {
		name string
		do   func()
		want string // in the log
	}{
		{"with a fault", func() { put(t, file, "services:\n  - {name: a, port: 0}\n") }, "ports.yml:2:21: port 0: want a number from 1 to 65535"},
		{"empty", func() { put(t, file, "") }, "ports.yml:1:1: has no services"},
		{"written by half", func() { put(t, file, registryOf("b")[:30]) }, "ports.yml:2:5: unclosed"},
		{"removed", func() { must(t, os.Remove(file)) }, "no such file or directory"},
		{"a link that leads nowhere", func() { must(t, os.Remove(file), os.Symlink("nowhere", file)) }, "no such file or directory"},
		{"a link to itself", func() { must(t, os.Remove(file), os.Symlink("ports.yml", file)) }, "too many levels of symbolic links"},
		{"a directory", func() { must(t, os.Remove(file), os.Mkdir(file, 0o755)) }, "not a regular file"},
		{"a pipe", func() { must(t, os.Remove(file), syscall.Mkfifo(file, 0o644)) }, "not a regular file"},
		{"a device without an end", func() { must(t, os.Remove(file), os.Symlink("/dev/zero", file)) }, "not a regular file"},
		{"of 50 MB", func() { must(t, os.Remove(file)); put(t, file, strings.Repeat("#", 50_000_000)) }, "ports.yml:1:1: is larger than 10 MiB"},
	} {
		before := len(e.errorLines())
		bad.do()
		e.awaitBad(bad.name)
		for range 3 {
			if got := e.wantJudged(bad.name, inForce, "0"); got != at {
				t.Errorf("%s: last success at %s, want %s", bad.name, got, at)
			}
		}
		if lines := e.errorLines()[before:]; len(lines) != 1 || !strings.Contains(lines[0], bad.want) {
			t.Errorf("%s: logged %q, want one line with %q", bad.name, lines, bad.want)
		}
		must(t, os.RemoveAll(file))
		if inForce = map[string]string{"a": "b", "b": "a"}[inForce]; inForce == "b" {
			put(t, file, registryOf("b"))
		} else {
			renameOver(t, file, registryOf("a"))
		}
		next := e.wantJudged(bad.name+", then mended", inForce, "1")
		if next == at {
			t.Errorf("%s, then mended: last success still at %s", bad.name, at)
		}
		at = next
	}
}
