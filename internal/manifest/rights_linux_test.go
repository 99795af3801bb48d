//go:build linux

package manifest

import (
	"errors"
	"io/fs"
	"os"
	"runtime"
	"strings"
	"syscall"
	"testing"
)

func TestWhatMayNotBeReadIsAnErrorThatNamesIt(t *testing.T) {
	t.Chdir(t.TempDir())
	files{
		"deploy/a/secret.yaml": "", "deploy/b/secrets/a.yaml": "", "deploy/c.yaml": "apiVersion: v1\nkind: Service\nspec: {ports: [{port: x}]}\n",
	}.write(t, ".")
	for _, name := range []string{"deploy/a/secret.yaml", "deploy/b/secrets"} {
		if err := os.Chmod(name, 0); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = os.Chmod(name, 0o755) })
	}
	var r *Report
	var err error
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // which ends with the goroutine
		if os.Geteuid() == 0 { // root reads everything, unless files are another user's to the kernel
			err = syscall.Setfsuid(65534)
		}
		if err == nil {
			r, err = Check(Options{}, []string{"deploy"}, nil)
		}
	}()
	<-done
	for _, name := range []string{"deploy/a/secret.yaml: ", "deploy/b/secrets: "} {
		if !errors.Is(err, fs.ErrPermission) || !strings.Contains(err.Error(), "read the manifest "+name) {
			t.Errorf("got %v, want it to name %s", err, name)
		}
	}
	findings, _, _ := r.lines()
	diff(t, "findings", []string{"deploy/c.yaml:3:23: port of Service default/without a name is x: want a number from 1 to 65535"}, findings)
}
