package page

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/listen-exporter/listen_exporter/internal/inventory"
)

func TestOfVeryManyMissingServicesTheFirstAreShown(t *testing.T) {
	for _, test := range []struct {
		services, shown, more int
		text                  string
	}{
		{maxMissing, maxMissing, 0, ""},
		{maxMissing + 1, maxMissing, 1, "1 more missing service: see <code>listen_exporter audit</code>."},
		{65535, maxMissing, 65535 - maxMissing, "64535 more missing services: see <code>listen_exporter audit</code>."},
	} {
		s := absent(10)
		s.Compliance.Services = s.Compliance.Services[:test.services]
		s.Listeners[0].Addr = netip.MustParseAddrPort("10.0.0.1:2")
		pod := listening(inventory.TCP, "0.0.0.0:3", inventory.ScopeAny)
		pod.Netns = "blue"
		s.Listeners = append(s.Listeners, pod, listening(inventory.UDP, "0.0.0.0:4", inventory.ScopeAny))
		v := newView(s, sampleOptions, sampleTime)
		if len(v.Missing) != test.shown || v.MoreMissing != test.more || v.Summary[0].Number != test.services {
			t.Errorf("of %d services %d are shown, %d are more, %d are counted", test.services, len(v.Missing), v.MoreMissing, v.Summary[0].Number)
		}
		for _, m := range v.Missing[:5] {
			want := "nothing listens as declared"
			if m.Port == 2 {
				want = "the port is open, but not as declared"
			}
			if m.Detail != want {
				t.Errorf("port %d: %s, want %s", m.Port, m.Detail, want)
			}
		}
		content := get(t, pageOf(t, s, sampleOptions)).Body.String()
		if got := strings.Contains(content, `<p class="more">`); got != (test.more > 0) || !strings.Contains(content, test.text) {
			t.Errorf("of %d services: the page does not have %q", test.services, test.text)
		}
	}
}
