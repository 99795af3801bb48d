//go:build linux

package collector

import (
	"context"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/listen-exporter/listen_exporter/internal/inventory"
)

// A process may call itself what the exporter calls the holders that it does not show.
func TestEachHolderHasLabelsOfItsOwn(t *testing.T) {
	c := newCollector(func() *inventory.Snapshot {
		return &inventory.Snapshot{Listeners: []inventory.Listener{{
			Key: key("tcp", "0.0.0.0:22", inventory.ScopeAny, inventory.RangePrivileged),
			Holders: []inventory.Holder{
				{Process: "(many)", UIDUnknown: true},
				{Process: `"(many)"`, UIDUnknown: true},
				{Process: "node", UIDUnknown: true},
				{Process: "node"},
			},
			ManyHolders: true,
		}}}
	})
	const labels = `host_listen_port_holder_info{address="0.0.0.0",family="ipv4",port="22",process=`
	const rest = `,proto="tcp",range="privileged",scope="any"} 1`
	want := `
# HELP host_listen_port_holder_info Holder of the listener: its process, systemd unit, container and pod, as far as they are known, and the user who owns the socket. Always 1.
# TYPE host_listen_port_holder_info gauge
`
	for _, process := range []string{`"(many)"`, `"\"(many)\""`, `"\"\"(many)\"\""`, `"node"`} {
		want += labels + process + rest + "\n"
	}
	want += labels + `"node",proto="tcp",range="privileged",scope="any",uid="0"} 1` + "\n"
	if err := testutil.CollectAndCompare(c, strings.NewReader(want), "host_listen_port_holder_info"); err != nil {
		t.Error(err)
	}
}

func TestDroppedLogLinesAreCounted(t *testing.T) {
	c := New(func(context.Context) *inventory.Snapshot { return new(inventory.Snapshot) }, func() uint64 { return 7 })
	want := `
# HELP host_listen_log_lines_dropped_total Lines of the exporter's log that were dropped, because nobody read the log or it could not be written.
# TYPE host_listen_log_lines_dropped_total counter
host_listen_log_lines_dropped_total 7
`
	if err := testutil.CollectAndCompare(c, strings.NewReader(want), "host_listen_log_lines_dropped_total"); err != nil {
		t.Error(err)
	}
}
