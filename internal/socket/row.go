//go:build linux

package socket

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"

	"github.com/listen-exporter/listen_exporter/internal/wording"
)

// rowForm is the form of a row of a socket table. It finds the line that the library could not read, whose number the library
// does not give. Only the columns that the library reads have a form.
type rowForm struct {
	columns int // at least
	form    *wording.LazyRegexp
}

// The columns sl, local_address, rem_address, st, tx_queue:rx_queue, tr:tm->when, retrnsmt, uid, timeout, inode; in a UDP
// table ref, pointer and drops too (get_tcp4_sock in net/ipv4/tcp_ipv4.c, udp4_format_sock in net/ipv4/udp.c).
const firstColumns = `^\s*\d+:\s+([0-9A-Fa-f]{8}|[0-9A-Fa-f]{32}):[0-9A-Fa-f]{1,4}\s+([0-9A-Fa-f]{8}|[0-9A-Fa-f]{32}):[0-9A-Fa-f]{1,4}` +
	`\s+[0-9A-Fa-f]{1,2}\s+[0-9A-Fa-f]{1,16}:[0-9A-Fa-f]{1,16}\s+\S+\s+\S+\s+\d+\s+\S+\s+\d{1,20}`

var (
	tcpRow = rowForm{columns: 10, form: wording.Regexp(firstColumns + `(\s|$)`)}
	udpRow = rowForm{columns: 13, form: wording.Regexp(firstColumns + `\s+\S+\s+\S+\s+\d{1,20}(\s|$)`)}
)

const (
	// headerStart is the first column's title, on the first line of every table.
	headerStart = "sl"
	// maxRow is the longest line that the library takes (bufio.MaxScanTokenSize).
	maxRow = bufio.MaxScanTokenSize
	// quotedRow is how much of a bad row is shown: the kernel's own rows are shorter.
	quotedRow = 160
)

// checkTable fails if the file at path is not a socket table. The library skips the first line without looking at it, so an empty
// file would look like a host on which nothing listens.
//
// The kernel's own file needs no such check, which would cost as much as reading it: with the header the kernel looks for the
// first row, in a hash table of all namespaces, which takes milliseconds if there is none (established_get_first in
// net/ipv4/tcp_ipv4.c).
func checkTable(path string) error {
	var on unix.Statfs_t
	if err := unix.Statfs(path, &on); err != nil {
		return err
	}
	if on.Type == unix.PROC_SUPER_MAGIC {
		return nil
	}
	if err := checkRegular(path); err != nil {
		return err
	}
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	start, err := io.ReadAll(io.LimitReader(f, 16))
	if err != nil {
		return err
	}
	if !bytes.HasPrefix(bytes.TrimLeft(start, " "), []byte(headerStart)) {
		return &foreignError{"line 1: not the header of a socket table", fmt.Errorf("%q", start)}
	}
	return nil
}

// locateBadRow returns what is wrong with the first row of the table at path that is not in its form, and the row, for the error of a
// read that failed. The table of a live kernel may have changed since then.
func locateBadRow(path string, form rowForm) (what string, row []byte) {
	table, err := os.Open(path)
	if err != nil {
		return "bad row", nil
	}
	defer func() { _ = table.Close() }()
	lines := bufio.NewReaderSize(table, maxRow)
	for number := 1; ; number++ {
		row, more, err := lines.ReadLine()
		columns := len(bytes.Fields(row))
		switch {
		case err != nil:
			return "bad row, gone when looked for", nil
		case more:
			return fmt.Sprintf("line %d: longer than %d bytes", number, maxRow), row
		case number == 1: // the header
		case columns < form.columns:
			return fmt.Sprintf("line %d: %d columns, want at least %d", number, columns, form.columns), row
		case !form.form.Get().Match(row):
			return fmt.Sprintf("line %d: malformed", number), row
		}
	}
}

func shortened(row []byte) []byte {
	row = bytes.TrimSpace(row)
	if len(row) > quotedRow {
		return append(row[:quotedRow:quotedRow], "…"...)
	}
	return row
}
