package inventory

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestMissingAreTheServicesThatAreNotUp(t *testing.T) {
	state := func(name string, up bool) ServiceState { return ServiceState{Service: &Service{Name: name}, Up: up} }
	for _, test := range []struct {
		name     string
		registry *Compliance
		want     []ServiceState
	}{
		{"no registry", nil, nil},
		{"no services", &Compliance{}, nil},
		{"all up", &Compliance{Services: []ServiceState{state("a", true)}}, nil},
		{"some down", &Compliance{Services: []ServiceState{state("a", false), state("b", true), state("c", false)}}, []ServiceState{state("a", false), state("c", false)}},
	} {
		if diff := cmp.Diff(test.want, (&Snapshot{Compliance: test.registry}).Missing()); diff != "" {
			t.Errorf("%s (-want +got):\n%s", test.name, diff)
		}
	}
}

func TestAListenerIsFullWhenItsQueueHasOneMoreThanTheLimit(t *testing.T) {
	for _, test := range []struct {
		name          string
		proto         string
		detailed      bool
		length, limit uint64
		want          bool
	}{
		{"idle", TCP, true, 0, 128, false},
		{"at the limit", TCP, true, 128, 128, false},
		{"one more", TCP, true, 129, 128, true},
		{"listen(0), idle", TCP, true, 0, 0, false},
		{"listen(0), with one connection", TCP, true, 1, 0, true},
		{"the limit is not known", TCP, false, 129, 0, false},
		{"UDP, which has no such queue", UDP, true, 1, 0, false},
	} {
		l := Listener{Key: Key{Proto: test.proto}, Detailed: test.detailed, AcceptQueueLength: test.length, AcceptQueueLimit: test.limit}
		if got := l.Full(); got != test.want {
			t.Errorf("%s: %t, want %t", test.name, got, test.want)
		}
	}
}
