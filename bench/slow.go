package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"syscall"
	"text/tabwriter"
	"time"
)

// A slow reader takes so many bytes at a time and so many times a second, and comes again when it is cut off.
const (
	slowPiece    = 4 << 10
	slowPause    = 100 * time.Millisecond
	slowCount    = 200
	slowestRatio = 2.0 // of the memory with all of them and with one reader
	// scrapeInterval is that of the reader who is not slow.
	scrapeInterval = time.Second
)

// reading is what readers of one kind did to one of the programs, each time that it was tried.
type reading struct {
	name, program string
	readers       int // slow ones, next to one that is not
	kinds         []kind
	memory        []float64 // at most resident, in MB
	scrapes       scrapes
}

// kind is how a reader asks.
type kind struct {
	client   client
	encoding string
}

func (k kind) String() string { return k.client.name + ", " + k.encoding }

// scrapes are those of the reader who is not slow.
type scrapes struct {
	answered, refused int
	longest           time.Duration
}

func slowReaders(s settings, out io.Writer) error {
	count := s.size(manyListeners, 500)
	open, err := openListeners(count)
	if err != nil {
		return err
	}
	defer open.hold()
	kinds := []kind{{prometheus3, identity}, {prometheus3, gzip}, {protobuf3, gzip}}
	var all []*reading
	for _, k := range kinds {
		for _, readers := range []int{0, slowCount} {
			all = append(all, &reading{name: k.String(), program: product, readers: readers, kinds: []kind{k}})
		}
	}
	all = append(all, &reading{name: "all of these", program: product, readers: slowCount, kinds: kinds})
	if s.before != "" {
		all = append(all, &reading{name: kinds[0].String(), program: before, kinds: kinds[:1]},
			&reading{name: kinds[0].String(), program: before, readers: slowCount, kinds: kinds[:1]})
	}
	for range min(s.rounds, 2) {
		for _, r := range all {
			if err := r.run(s, count); err != nil {
				return fmt.Errorf("%s, %s, %d slow readers: %w", r.program, r.name, r.readers, err)
			}
		}
	}
	return reportReadings(out, count, all)
}

// run starts the program, has it read for a while, and adds the most memory that it had.
func (r *reading) run(s settings, listeners int) error {
	e, err := startReporting(s, r.program, listeners+1)
	if err != nil {
		return err
	}
	defer e.stop()
	if _, err := untilHeld(e, listeners); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Duration(s.size(15, 2))*time.Second)
	defer cancel()
	var group sync.WaitGroup
	for n := range r.readers {
		group.Go(func() { e.readSlowly(ctx, r.kinds[n%len(r.kinds)]) })
	}
	for next := time.Now(); ctx.Err() == nil; {
		next = next.Add(scrapeInterval)
		start := time.Now()
		_, err := e.get(r.kinds[0].client, r.kinds[0].encoding)
		r.scrapes.longest = max(r.scrapes.longest, time.Since(start))
		if err == nil {
			r.scrapes.answered++
		} else {
			r.scrapes.refused++
		}
		time.Sleep(time.Until(next))
	}
	group.Wait()
	memory, err := e.memory("VmHWM:")
	r.memory = append(r.memory, memory)
	return err
}

// readSlowly scrapes again and again, over connections with a small receive buffer.
func (e *exporter) readSlowly(ctx context.Context, k kind) {
	dialer := net.Dialer{Control: func(_, _ string, c syscall.RawConn) error {
		return c.Control(func(fd uintptr) { _ = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_RCVBUF, slowPiece) })
	}}
	for ; ctx.Err() == nil; pause(ctx) {
		conn, err := dialer.DialContext(ctx, "tcp", strings.TrimPrefix(e.url, "http://"))
		if err != nil {
			continue
		}
		stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
		if request, err := k.client.request(ctx, e, k.encoding); err == nil && request.Write(conn) == nil {
			body := bufio.NewReaderSize(conn, slowPiece)
			if response, err := http.ReadResponse(body, request); err == nil && response.StatusCode == http.StatusOK {
				for piece := make([]byte, slowPiece); err == nil; pause(ctx) {
					_, err = response.Body.Read(piece)
				}
			}
		}
		stop()
		_ = conn.Close()
	}
}

func pause(ctx context.Context) {
	select {
	case <-ctx.Done():
	case <-time.After(slowPause):
	}
}

func reportReadings(out io.Writer, listeners int, all []*reading) error {
	w := tabwriter.NewWriter(out, 0, 0, 1, ' ', 0)
	_, _ = fmt.Fprintf(w, "Most resident memory with slow readers of %d listeners, next to one that is not slow, in MB\n\n", listeners)
	_, _ = fmt.Fprint(w, "| program\t| readers\t| slow\t| median\t| lowest\t| highest\t| ratio\t| scrapes answered, refused\t| longest\t|\n",
		"| ---\t| ---\t| ---\t| ---\t| ---\t| ---\t| ---\t| ---\t| ---\t|\n")
	one := make(map[string]float64) // by program and kind of reader
	var largest float64
	var missed error
	for _, r := range all {
		slices.Sort(r.memory)
		memory, text := median(r.memory), ""
		if r.readers == 0 {
			one[r.program+r.name] = memory
			if r.program == product {
				largest = max(largest, memory)
			}
		} else {
			base, found := one[r.program+r.name]
			if !found { // readers of all kinds
				base = largest
			}
			value := memory / base
			text = fmt.Sprintf("%.2f", value)
			if r.program == product && value > slowestRatio {
				text += " MISSED"
				missed = fmt.Errorf("%s, %d slow readers: memory is %.2f × that of one, want at most %g: %w",
					r.name, r.readers, value, slowestRatio, errMissed)
			}
		}
		_, _ = fmt.Fprintf(w, "| %s\t| %s\t| %d\t| %.1f\t| %.1f\t| %.1f\t| %s\t| %d, %d\t| %s\t|\n", r.program, r.name, r.readers,
			memory, r.memory[0], r.memory[len(r.memory)-1], text, r.scrapes.answered, r.scrapes.refused, short(r.scrapes.longest))
	}
	_, _ = fmt.Fprintln(w)
	return errors.Join(w.Flush(), missed)
}
