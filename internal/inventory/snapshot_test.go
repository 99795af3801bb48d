//go:build linux

package inventory

import "testing"

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
