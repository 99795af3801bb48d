package registry

import (
	"errors"
	"os"
	"syscall"
	"testing"
)

func TestWhatIsNoPlainFileIsReportedOrRead(t *testing.T) {
	t.Chdir(t.TempDir())
	mkdir(t, "ports.yml")
	if _, err := Load("ports.yml"); !errors.Is(err, syscall.EISDIR) || err.Error() != "read the registry: read ports.yml: is a directory" {
		t.Errorf("a directory: %v", err)
	}
	if _, err := Load("/dev/zero"); err == nil || err.Error() != "/dev/zero:1:1: is larger than 10 MiB: want a shorter file" {
		t.Errorf("a file without an end: %v", err)
	}
	if err := syscall.Mkfifo("pipe", 0o600); err != nil {
		t.Fatal(err)
	}
	go func() {
		if err := os.WriteFile("pipe", []byte(one("ssh")), 0o600); err != nil {
			t.Error(err)
		}
	}()
	if r, err := Load("pipe"); err != nil || r.ServiceCount() != 1 {
		t.Errorf("a pipe: %v", err)
	}
}
