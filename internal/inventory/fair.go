//go:build linux

package inventory

import (
	"cmp"
	"slices"
)

// maxRemembered is how many series a family of what is remembered has at most.
const maxRemembered = 1024

// firstSubordinate is the first of the user IDs that are taken as one user: any user may have thousands of them for his containers
// (subuid(5)).
const firstSubordinate = 1 << 16

// fairly returns at most limit of the items. Each user gets as many as any other, as far as he has that many, and of his the first
// ones: whoever opens ports without end takes no place of another user's.
func fairly[T any](items []T, limit int, user func(T) uint32) []T {
	if len(items) <= limit {
		return items
	}
	type turn struct {
		count int // which of the user's items it is
		user  uint32
		item  T
	}
	turns := make([]turn, 0, len(items))
	counts := make(map[uint32]int)
	for _, item := range items {
		of := min(user(item), firstSubordinate)
		turns = append(turns, turn{counts[of], of, item})
		counts[of]++
	}
	// The last turns may not be enough for all users. The system's have low numbers.
	slices.SortStableFunc(turns, func(a, b turn) int {
		return cmp.Or(cmp.Compare(a.count, b.count), cmp.Compare(a.user, b.user))
	})
	kept := make([]T, limit)
	for n := range kept {
		kept[n] = turns[n].item
	}
	return kept
}
