//go:build linux

package holder

import (
	"fmt"
	"testing"
	"time"
)

func TestAFindRechecksTwoHoldersAndAllAfterALongTime(t *testing.T) {
	const sockets = 40
	for _, c := range []struct {
		name     string
		between  time.Duration // two Finds
		min, max int           // rechecked by one Find
	}{
		{name: "a Find every 15 seconds", between: 15 * time.Second, min: 2, max: 2},
		{name: "one at once", between: 0, min: 0, max: 0},
		{name: "one that comes soon", between: recheckPause, min: 2, max: 2},
		{name: "one after a day", between: 24 * time.Hour, min: sockets, max: sockets},
	} {
		t.Run(c.name, func(t *testing.T) {
			x := newFixture(t)
			var given []Socket
			for n := range sockets {
				x.process(100+n, "before", uint64(1000+n))
				group := x.group(fmt.Sprintf("system.slice/s%d.service", n), 100+n)
				given = append(given, Socket{ID: uint64(1 + n), Inode: uint64(1000 + n), Cgroup: group})
			}
			f := x.finder()
			x.find(f, given, false)
			for n := range sockets {
				x.write(fmt.Sprintf("%d/comm", 100+n), "after\n")
			}
			renamed := 0
			for round := 0; round < 4 && renamed < sockets; round++ {
				x.clock = x.clock.Add(c.between)
				if _, err := f.Find(given, true); err != nil {
					t.Fatal(err)
				}
				before := renamed
				renamed = 0
				for _, s := range given {
					if holders := f.Holders(s); len(holders) == 1 && holders[0].Process == "after" {
						renamed++
					}
				}
				if got := renamed - before; got < c.min || got > c.max {
					t.Errorf("Find %d rechecked %d holders, want %d to %d", round, got, c.min, c.max)
				}
			}
		})
	}
}

func TestThePatrolFindsOutWhichHoldersHaveChanged(t *testing.T) {
	x := newFixture(t)
	var given []Socket
	for n := range 40 {
		x.process(100+n, "before", uint64(1000+n))
		if n%2 == 0 { // nobody sees these open files
			x.rename(x.fdDir(100+n), x.fdDir(100+n)+".hidden")
		}
		group := x.group(fmt.Sprintf("system.slice/s%d.service", n), 100+n)
		given = append(given, Socket{ID: uint64(1 + n), Inode: uint64(1000 + n), Cgroup: group})
	}
	f := x.finder()
	x.patrol(f)
	x.find(f, given, false)
	for n := range given {
		x.write(fmt.Sprintf("%d/comm", 100+n), "after\n")
	}
	x.find(f, given, true)
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); time.Sleep(time.Millisecond) {
		p := f.patrols[0]
		p.mu.Lock()
		noted := len(p.changed)
		p.mu.Unlock()
		if noted > 30 { // far more than Finds have rechecked
			break
		}
	}
	x.find(f, given, true)
	for n, s := range given {
		x.want(f, s, Holder{Process: "after", Unit: fmt.Sprintf("s%d.service", n)})
	}
}

func TestWithoutTheCgroupOfASocketItsUnitIsThatOfItsProcess(t *testing.T) {
	x := newFixture(t)
	x.process(100, "server", 1000)
	s := Socket{ID: 1, Inode: 1000}
	f := x.finder()
	for _, unit := range []string{"before.service", "after.service"} {
		x.write("100/cgroup", "0::/system.slice/"+unit+"\n")
		if !x.find(f, []Socket{s}, false) {
			t.Error("the process moved, but nothing changed")
		}
		x.want(f, s, Holder{Process: "server", Unit: unit})
		if x.find(f, []Socket{s}, true) {
			t.Error("nothing happened, but something changed")
		}
	}
}

func TestAProcessThatRenamesItselfForEverCostsNoSearchOfAll(t *testing.T) {
	x := newFixture(t)
	x.process(100, "server", 1000)
	sockets := []Socket{{ID: 1, Inode: 1000}}
	f := x.finder()
	x.find(f, sockets, false)
	root := watchOpening(t, x.procfs)
	for n := range 100 {
		x.clock = x.clock.Add(15 * time.Second)
		name := fmt.Sprint("p", n)
		x.write("100/comm", name+"\n")
		root.since() // the test's own
		x.find(f, sockets, true)
		x.want(f, sockets[0], Holder{Process: name})
		root.want()
	}
}

func TestWhoHasTheNameThatAWitnessHadIsFoundAtOnceInItsCgroup(t *testing.T) {
	x := newFixture(t)
	x.process(100, "gunicorn", 1000)
	x.process(101, "gunicorn", 1000)
	sockets := []Socket{{ID: 1, Inode: 1000, Cgroup: x.group("system.slice/a.service", 100, 101)}}
	f := x.finder()
	x.find(f, sockets, false)
	x.write("100/comm", "gunicorn: maste\n")
	x.find(f, sockets, true)
	x.want(f, sockets[0], Holder{Process: "gunicorn", Unit: "a.service"}, Holder{Process: "gunicorn: maste", Unit: "a.service"})
}

func TestTheOldestOfOneNameIsTheWitness(t *testing.T) {
	x := newFixture(t)
	for pid := 100; pid < 110; pid++ {
		x.process(pid, "server", 1000)
	}
	sockets := []Socket{{ID: 1, Inode: 1000}}
	f := x.finder()
	x.find(f, sockets, false)
	root := watchOpening(t, x.procfs)
	for pid := 101; pid < 110; pid++ { // workers come and go
		x.end(pid)
		root.since() // the test's own
		x.find(f, sockets, true)
		root.want()
	}
	x.want(f, sockets[0], Holder{Process: "server"})
}
