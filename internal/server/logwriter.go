//go:build linux

package server

import (
	"io"
	"sync"
	"time"
)

// Limits of a LogWriter.
const (
	// maxQueued is how much of a log waits to be written, in bytes: what the program logs in minutes of bad trouble.
	maxQueued = 256 << 10
	// logPatience is how long a line waits for room before it is dropped. A live reader makes room within that time, so a
	// burst of lines is not lost.
	logPatience = 200 * time.Millisecond
)

// LogWriter writes a log in a goroutine of its own, so that nobody who logs waits for whoever reads the log. When the reader has
// stopped, lines are queued up to a limit, and then dropped and counted. When it is back, a line says how many were dropped.
type LogWriter struct {
	out    io.Writer
	notice func(dropped uint64) []byte

	mu      sync.Mutex
	filled  sync.Cond // of mu: the queue is not empty
	queue   []queuedLine
	size    int    // of the queue and the line that is being written, in bytes
	gap     uint64 // the lines that were dropped since the last notice
	dropped uint64 // all lines that were dropped
}

type queuedLine struct {
	text []byte
	// reports is the number of dropped lines that the line reports. It is 0 for a line that was logged.
	reports uint64
}

// newLogWriter returns a writer to out. notice returns the line that says how many lines were dropped.
func newLogWriter(out io.Writer, notice func(dropped uint64) []byte) *LogWriter {
	l := &LogWriter{out: out, notice: notice}
	l.filled.L = &l.mu
	go l.run()
	return l
}

// Write implements io.Writer, for one line. It never fails.
func (l *LogWriter) Write(line []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	// Once a line was dropped, none waits until there is room again.
	for end := time.Now().Add(logPatience); l.gap == 0 && l.full(len(line)) && time.Now().Before(end); {
		l.mu.Unlock()
		time.Sleep(time.Millisecond)
		l.mu.Lock()
	}
	l.closeGap()
	if l.gap > 0 || l.full(len(line)) {
		l.gap++
		l.dropped++
		return len(line), nil
	}
	l.enqueue(queuedLine{text: append([]byte(nil), line...)})
	return len(line), nil
}

// Dropped returns how many lines were dropped.
func (l *LogWriter) Dropped() uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.dropped
}

// Flush waits until everything is written, but no longer than limit.
func (l *LogWriter) Flush(limit time.Duration) {
	for end := time.Now().Add(limit); time.Now().Before(end); time.Sleep(time.Millisecond) {
		l.mu.Lock()
		done := l.size == 0
		l.mu.Unlock()
		if done {
			return
		}
	}
}

func (l *LogWriter) run() {
	for {
		l.mu.Lock()
		for len(l.queue) == 0 {
			l.filled.Wait()
		}
		line := l.queue[0]
		l.queue = l.queue[1:]
		l.mu.Unlock()
		_, err := l.out.Write(line.text)
		l.written(line, err)
	}
}

// written notes that a line was written, or could not be.
func (l *LogWriter) written(line queuedLine, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.size -= len(line.text)
	switch {
	case err == nil:
		l.closeGap()
	case line.reports > 0:
		l.gap += line.reports
	default:
		l.gap++
		l.dropped++
	}
}

// full reports whether there is no room for a line. One that is larger than the queue is taken when nothing else waits.
func (l *LogWriter) full(length int) bool { return l.size > 0 && l.size+length > maxQueued }

// closeGap queues the notice of lines that were dropped, if there is room for others after it.
func (l *LogWriter) closeGap() {
	if l.gap > 0 && l.size <= maxQueued/2 {
		lost := l.gap
		l.gap = 0
		l.enqueue(queuedLine{l.notice(lost), lost})
	}
}

func (l *LogWriter) enqueue(line queuedLine) {
	l.queue = append(l.queue, line)
	l.size += len(line.text)
	l.filled.Signal()
}
