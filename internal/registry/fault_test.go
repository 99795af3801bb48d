//go:build linux

package registry

import (
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestFaultsHaveAKindWithoutTheWordsOfTheFile(t *testing.T) {
	_, err := Parse("ports.yml", []byte("services:\n  - {name: [], hunter2: 1, port: hunter2}\n  - {name: b, port: {}, required: hunter2}\n  - {port: 1}\n"))
	faults := Faults(nil)
	if !errors.As(err, &faults) {
		t.Fatal(err)
	}
	want := `ports.yml:2:12: name is a list: want text such as ssh
ports.yml:2:16: unknown key …: want one of …
ports.yml:2:34: bad value
ports.yml:3:21: port is a mapping: want a port, a range such as "8000-8010", or a list of them
ports.yml:3:35: required is …: want true, false, one-port or one-host
ports.yml:4:5: service without a name: want "name: ssh"`
	if diff := cmp.Diff(want, faults.Public()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
