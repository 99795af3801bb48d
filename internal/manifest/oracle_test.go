//go:build linux

package manifest

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"
)

// claim is a port as the oracle sees it: it never reads YAML.
type claim struct {
	object   int
	port     int
	protocol string
	ip       string // "" for a nodePort
	node     string
	nodePort bool
}

// collides says whether two claims of different objects take the same port of one node, as Kubernetes does.
func (a claim) collides(b claim) bool {
	if a.object == b.object || a.port != b.port {
		return false
	}
	if a.nodePort && b.nodePort {
		return true
	}
	if a.protocol != b.protocol || a.node != "" && b.node != "" && a.node != b.node {
		return false
	}
	if a.nodePort || b.nodePort {
		return true
	}
	x, y := netip.MustParseAddr(a.ip), netip.MustParseAddr(b.ip)
	return x.IsUnspecified() || y.IsUnspecified() || x == y
}

// The oracle compares each claim with each other. What is found must be one line for each pair of objects of which the later has
// a claim that no object before that of the pair collides with.
func TestDuplicatesAreThoseOfAnIndependentOracle(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	pick := func(from ...string) string { return from[random.IntN(len(from))] }
	for round := range 300 {
		var claims []claim
		var content strings.Builder
		for object := range 2 + random.IntN(10) {
			isService := random.IntN(4) == 0
			network := !isService && random.IntN(3) == 0
			node := pick("", "", "n1", "n2")
			var ports []string
			seen := map[int]bool{}
			for range 1 + random.IntN(4) {
				port := 30000 + random.IntN(8)
				if seen[port] {
					continue // what one object has twice is tested elsewhere
				}
				seen[port] = true
				c := claim{object, port, pick("TCP", "TCP", "UDP"), pick("0.0.0.0", "0.0.0.0", "10.0.0.1", "10.0.0.2"), node, isService}
				switch {
				case isService:
					c.node = ""
					ports = append(ports, fmt.Sprintf("{port: %d, nodePort: %d, protocol: %s}", port-29000, port, c.protocol))
				case network:
					ports = append(ports, fmt.Sprintf("{containerPort: %d, protocol: %s, hostIP: %s}", port, c.protocol, c.ip))
				default:
					ports = append(ports, fmt.Sprintf("{containerPort: 1, hostPort: %d, protocol: %s, hostIP: %s}", port, c.protocol, c.ip))
				}
				claims = append(claims, c)
			}
			name := fmt.Sprintf("o%d", object)
			spec := ""
			if node != "" {
				spec = "nodeName: " + node + ", "
			}
			if network {
				spec += "hostNetwork: true, "
			}
			if isService {
				content.WriteString("---\n" + service(name, "type: NodePort, ", ports...))
			} else {
				content.WriteString("---\n" + pod(name, spec, ports...))
			}
		}
		var want []string
		for i, later := range claims {
			at := slices.IndexFunc(claims[:i], later.collides)
			if at >= 0 {
				want = append(want, fmt.Sprintf("o%d o%d", later.object, claims[at].object))
			}
		}
		slices.Sort(want)
		want = slices.Compact(want)

		var got []string
		for _, f := range checkAll(t, Options{}, "", files{"a.yaml": content.String()}).Findings {
			later, earlier, _ := strings.Cut(f.Text, " is already taken by ")
			name := func(text string) string {
				return strings.Fields(text[strings.Index(text, "default/")+len("default/"):])[0]
			}
			got = append(got, name(later)+" "+name(earlier))
		}
		slices.Sort(got)
		if !slices.Equal(got, want) {
			t.Fatalf("round %d: got %q, want %q in:\n%s", round, got, want, content.String())
		}
	}
}
