package inventory

import (
	"strconv"
	"testing"
)

func TestNewNamespacesDoNotKeepOldOnesWaiting(t *testing.T) {
	const old = 100
	for _, live := range []int{1, 2, 8} { // rounds
		t.Run(strconv.Itoa(live), func(t *testing.T) {
			h := newHost(t)
			for range old {
				h.add(80)
			}
			h.round()
			last := make([]int, old) // the round in which each was last read
			most := (old+live*perRound)/perRound + 1
			fresh := 0 // new ones that were read
			for round := 1; round <= 6*most; round++ {
				for range perRound {
					h.add(81)
				}
				for len(h.pods) > old+live*perRound {
					p := h.pods[old]
					if reads, _ := p.counts(); reads > 0 {
						fresh++
					}
					h.remove(p)
				}
				before := make([]int, old)
				for n, p := range h.pods[:old] {
					before[n], _ = p.counts()
				}
				h.round()
				for n, p := range h.pods[:old] {
					if after, _ := p.counts(); after > before[n] {
						last[n] = round
					}
					if round-last[n] > most {
						t.Fatalf("round %d: namespace %d was last read in round %d", round, n, last[n])
					}
				}
			}
			if fresh == 0 && live > 1 { // those that last for a round may end before it is their turn
				t.Error("none of the new ones was read")
			}
		})
	}
}
