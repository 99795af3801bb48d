//go:build linux

package inventory

import (
	"fmt"
	"testing"

	"github.com/listen-exporter/listen_exporter/internal/socket"
)

// newCrowd makes so many namespaces, of which a round reads about two. It returns when all were read.
func newCrowd(h *host, count int, owner func(n int) string) {
	for n := range count {
		p := h.add(80)
		p.found.Owner = owner(n)
		p.takes = turnTime
	}
	for range count + maxReaders {
		h.round()
	}
}

// roundsUntilRead returns how many rounds it takes until a namespace is read.
func roundsUntilRead(t *testing.T, h *host, p *pod, most int, each func()) {
	t.Helper()
	before := p.count
	for n := 1; p.count == before; n++ {
		if n > most {
			t.Fatalf("it was not read in %d rounds", most)
		}
		each()
		h.round()
	}
}

func TestANamespaceWithNewsIsReadSoonWhereARoundCannotReadAll(t *testing.T) {
	const crowd = 300
	withHost(t, func(t *testing.T, h *host) {
		newCrowd(h, crowd, func(n int) string { return fmt.Sprint("owner", n) })
		quiet := func() {}
		p := h.add(81)
		p.found.Owner = "new"
		p.takes = turnTime
		roundsUntilRead(t, h, p, 1, quiet)
		roundsUntilRead(t, h, p, crowd, quiet) // it has no news any more

		for _, n := range []int{7, crowd / 2, crowd - 1} { // a process began there, or a socket was opened
			changed := h.pods[n]
			h.set(func() { changed.found.Signs++ })
			roundsUntilRead(t, h, changed, 3, quiet) // it may have been read just before, and is costly
		}
	})
}

func TestWhoMakesNewsAllTheTimeKeepsNoOtherWaiting(t *testing.T) {
	const crowd, attackers = 100, 60
	change := func(pods []*pod) {
		for _, p := range pods {
			p.found.Signs++
		}
	}
	for name, test := range map[string]struct {
		owned  bool // the attackers' namespaces have one owner
		attack func(h *host, round int)
	}{
		"signs":                  {true, func(h *host, _ int) { change(h.pods[:attackers]) }},
		"signs_of_several_users": {false, func(h *host, _ int) { change(h.pods[:attackers]) }},
		"listeners": {true, func(h *host, round int) {
			change(h.pods[:attackers])
			for _, p := range h.pods[:attackers] {
				p.listen(socket.TCP, []socket.Socket{at("0.0.0.0:80", 80), at("0.0.0.0:81", 81)}[:1+round%2]...)
			}
		}},
		"namespaces": {true, func(h *host, round int) {
			for range 3 {
				h.add(90).takes = turnTime
			}
			h.remove(h.pods[len(h.pods)-1-round%2])
		}},
		"namespaces_and_signs": {true, func(h *host, _ int) {
			h.add(90).takes = turnTime
			change(h.pods[:attackers])
		}},
	} {
		t.Run(name, func(t *testing.T) {
			withHost(t, func(t *testing.T, h *host) {
				newCrowd(h, crowd, func(n int) string {
					if n < attackers && test.owned {
						return ""
					}
					return fmt.Sprint("owner", n)
				})
				round := 0
				each := func() { round++; test.attack(h, round) }
				for range 2 * crowd {
					each()
					h.round()
				}
				p, quiet := h.pods[attackers], h.pods[attackers+1]
				for range 3 {
					p.found.Signs++
					p.listen(socket.TCP, append(p.rows[socket.TCP], at(fmt.Sprint("0.0.0.0:", 1000+round), uint64(1000+round)))...)
					roundsUntilRead(t, h, p, 8, each)
				}
				roundsUntilRead(t, h, quiet, 3*crowd, each) // in its turn
				p = h.add(81)
				p.found.Owner, p.takes = "new", turnTime
				roundsUntilRead(t, h, p, 3, each)
			})
		})
	}
}
