//go:build linux

package program_test

import (
	"strings"
	"testing"

	"github.com/listen-exporter/listen_exporter/test/program"
)

// The exporter's own port need not be declared, whether a command or the exporter itself looks at it.
func TestTheExportersOwnPortIsNoViolation(t *testing.T) {
	procfs := program.NewProcfs(t)
	file := program.WriteFile(t, "ports.yml", "services: [{name: ssh, port: 22}]\n")
	table := program.TCPHeader + program.TCP22 + strings.NewReplacer("1F90", "27CE").Replace(program.TCP8080) // 10190
	program.WriteTable(t, procfs, "tcp", table)
	program.WriteTable(t, procfs, "tcp6", program.TCP6Header)
	program.WriteTable(t, procfs, "udp", program.UDPHeader)
	program.WriteTable(t, procfs, "udp6", program.UDP6Header)
	for _, test := range []struct {
		args []string
		code int
		want string
	}{
		{nil, 0, "2 listeners as declared, 0 violations, 0 missing services\n"},
		{[]string{"--web.listen-address=:1", "--web.listen-address=127.0.0.1:10190"}, 0, "2 listeners as declared, 0 violations, 0 missing services\n"},
		{[]string{"--web.listen-address=:1"}, 1, "1 listener as declared, 1 violation, 0 missing services\n"},
		{[]string{"--web.systemd-socket"}, 1, "1 listener as declared, 1 violation, 0 missing services\n"},
	} {
		code, stdout, stderr := program.Run(t, append(test.args, "audit", "--log.level=error", "--path.procfs="+procfs, "--registry.file="+file)...)
		if code != test.code || !strings.HasSuffix(stdout, test.want) {
			t.Errorf("%q: exit code %d, want %d, and %q, want %q; on stderr %s", test.args, code, test.code, stdout, test.want, stderr)
		}
	}
}
