//go:build linux

package incidents

import (
	"errors"
	"os"
	"time"
)

// outages is what happens to Prometheus while ports are lost. It is played at the end, since it concerns all hosts.
func (s *script) outages() *stage {
	declared, plain := s.servers("unwatched")
	cut := func(name string, seen bool, length time.Duration, forget bool) act {
		api, apiOfPlain := declared.service("apid"), plain.service("apid")
		lose := func(h *machine, lost *service, alert string, want string) *incident {
			return lost.incident(name, func() error {
				err := lost.stop()
				if seen {
					err = errors.Join(err, h.awaitAlert(alert, lost.port(), true))
				}
				return err
			}, lost.start, []string{want})
		}
		return act{
			incidents: []*incident{lose(declared, api, missing, missing+" api"), lose(plain, apiOfPlain, vanished, vanished)},
			then:      func() error { return s.world.monitoring.interrupt(length, forget) },
		}
	}
	long := 5 * time.Minute / speed
	if isFull() {
		long = 70 * time.Minute / speed
	}
	stage := newStage("outages", []*machine{declared, plain},
		cut("Prometheus is killed, and restarts before it has seen a loss", false, 20*time.Second/speed, false),
		cut("Prometheus is killed while the alert fires, and restarts late", true, long, false),
		cut("Prometheus loses its database while the alert fires", true, 20*time.Second/speed, true))
	stage.last = true
	return stage
}

// interrupt kills all engines and starts them again, without what they have stored if they forget.
func (w *monitoring) interrupt(length time.Duration, forget bool) error {
	for _, e := range w.engines {
		e.process.Kill()
	}
	time.Sleep(length)
	var all error
	for _, e := range w.engines {
		if forget {
			all = errors.Join(all, os.RemoveAll(w.data(e)))
		}
		all = errors.Join(all, w.startEngine(e))
	}
	return all
}
