//go:build linux

package lease_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.etcd.io/bbolt"
	"golang.org/x/sys/unix"

	"github.com/listen-exporter/listen_exporter/internal/lease"
	"github.com/listen-exporter/listen_exporter/test/host"
	"github.com/listen-exporter/listen_exporter/test/netnstest"
)

// fixedClock is the clock of a host that was booted an hour ago.
func fixedClock() lease.Clock {
	return lease.Clock{
		Boot: func() time.Duration { return time.Hour }, Wall: func() time.Time { return time.Unix(1_800_003_600, 0) },
		BootID: "6f1b7a0e-3c52-4d5f-9a51-0d8e2f4b7c11",
	}
}

// numbered returns a lease with the ID of a number.
func numbered(n int, ports ...uint16) lease.Lease {
	return lease.Lease{
		ID: fmt.Sprintf("%032x", n), Team: "ci", Name: "app", Proto: "tcp", Ports: ports, UID: alice, User: "4242", Host: "here", TTL: time.Minute,
	}
}

// fill makes a store with so many leases, and returns them.
func fill(t *testing.T, path string, leases int) []lease.Lease {
	t.Helper()
	s, err := lease.OpenFile(path, "here", fixedClock())
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error)
	for n := range leases {
		go func() {
			_, err := s.Take(t.Context(), numbered(n, uint16(20000+2*n), uint16(20001+2*n)))
			done <- err
		}()
	}
	for range leases {
		err = errors.Join(err, <-done)
	}
	list, listed := s.Leases()
	if err := errors.Join(err, listed, s.Close()); err != nil || len(list) != leases {
		t.Fatalf("%d leases: %v", len(list), err)
	}
	return list
}

// edit changes a file as bbolt's.
func edit(t *testing.T, path string, change func(tx *bbolt.Tx) error) {
	t.Helper()
	db, err := bbolt.Open(path, 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(db.Update(change), db.Close()); err != nil {
		t.Fatal(err)
	}
}

// stored returns a record as it is in the file.
func stored(record string) []byte {
	return fmt.Appendf(nil, "%08x %s", crc32.Checksum([]byte(record), crc32.MakeTable(crc32.Castagnoli)), record)
}

// recordForm is a record that is right with ports and further fields.
const recordForm = `{"id":"%032x","team":"ci","name":"app","proto":"tcp","ports":%s,"uid":1,"user":"daemon","host":"here","ttl":60000000000,"boot_id":"b","deadline":1,"expires":1%s}`

// TestWhatIsNoStoreIsRefusedAndKept: leases must not be forgotten in silence, nor somebody's file be written to.
func TestWhatIsNoStoreIsRefusedAndKept(t *testing.T) {
	write := func(content string) func(*testing.T, string) {
		return func(t *testing.T, path string) {
			if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	cut := func(change func(content []byte) []byte) func(*testing.T, string) {
		return func(t *testing.T, path string) {
			fill(t, path, 200)
			content, err := os.ReadFile(path)
			if err == nil {
				err = os.WriteFile(path, change(content), 0o600)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	in := func(bucket, key string, value []byte) func(*testing.T, string) {
		return func(t *testing.T, path string) {
			fill(t, path, 2)
			edit(t, path, func(tx *bbolt.Tx) error { return tx.Bucket([]byte(bucket)).Put([]byte(key), value) })
		}
	}
	record := func(n int, ports, more string) func(*testing.T, string) {
		return in("leases", fmt.Sprintf("%032x", 7), stored(fmt.Sprintf(recordForm, n, ports, more))) // a wrong number comes last
	}
	const page = 4096
	for name, test := range map[string]struct {
		make func(t *testing.T, path string)
		want string
	}{
		"empty_file":     {write(""), "is damaged, or is not a store of leases"},
		"text":           {write(strings.Repeat("services:\n", 2000)), "is damaged, or is not a store of leases"},
		"short_text":     {write("x"), "is damaged, or is not a store of leases"},
		"sqlite":         {write("SQLite format 3\x00" + strings.Repeat("\x00", 8*page)), "is damaged, or is not a store of leases"},
		"only_zeros":     {write(strings.Repeat("\x00", 8*page)), "is damaged, or is not a store of leases"},
		"first_page":     {cut(func(c []byte) []byte { return c[:page] }), "is damaged, or is not a store of leases"},
		"two_pages":      {cut(func(c []byte) []byte { return c[:2*page] }), "is damaged, or is not a store of leases"},
		"half":           {cut(func(c []byte) []byte { return c[:len(c)/2] }), "is damaged, or is not a store of leases"},
		"without_a_byte": {cut(func(c []byte) []byte { return bytes.TrimRight(c, "\x00")[:20*page-1] }), "is damaged, or is not a store of leases"},
		"zeroed_pages":   {cut(func(c []byte) []byte { clear(c[2*page:]); return c }), "is damaged, or is not a store of leases"},
		"zeroed_metas":   {cut(func(c []byte) []byte { clear(c[:2*page]); return c }), "is damaged, or is not a store of leases"},
		"pages_swapped": {cut(func(c []byte) []byte {
			copy(c[2*page:], c[5*page:])
			return c
		}), "is damaged, or is not a store of leases"},
		"bbolt_of_others": {func(t *testing.T, path string) {
			edit(t, path, func(tx *bbolt.Tx) error { _, err := tx.CreateBucket([]byte("containers")); return err })
		}, `it has a bucket "containers"`},
		"bbolt_without_buckets": {func(t *testing.T, path string) { edit(t, path, func(*bbolt.Tx) error { return nil }) }, "it has no leases"},
		"bbolt_with_one_more": {func(t *testing.T, path string) {
			fill(t, path, 2)
			edit(t, path, func(tx *bbolt.Tx) error { _, err := tx.CreateBucket([]byte("more")); return err })
		}, `it has a bucket "more"`},
		"newer_version":    {in("meta", "version", []byte("3")), "has version 3, which a newer listen_exporter has written: want that one, or another --lease.file"},
		"version_of_words": {in("meta", "version", []byte("two")), "it has no version"},
		"version_zero":     {in("meta", "version", []byte("0")), "it has no version"},
		"long_version":     {in("meta", "version", []byte(strings.Repeat("9", 5000))), "has version 999999999,"},
		"no_version":       {in("meta", "version", nil), "it has no version"},
		"a_bucket_for_a_lease": {func(t *testing.T, path string) {
			fill(t, path, 2)
			edit(t, path, func(tx *bbolt.Tx) error {
				_, err := tx.Bucket([]byte("leases")).CreateBucket([]byte("b"))
				return err
			})
		}, "its checksum is wrong"},
		"empty_record":        {in("leases", "7", nil), "its checksum is wrong"},
		"record_of_version_1": {in("leases", "7", fmt.Appendf(nil, recordForm, 7, "[1]", "")), "its checksum is wrong"},
		"flipped_bit":         {in("leases", "7", bytes.Replace(stored(fmt.Sprintf(recordForm, 7, "[30001]", "")), []byte("30001"), []byte("30003"), 1)), "its checksum is wrong"},
		"lost_lease": {func(t *testing.T, path string) {
			fill(t, path, 2)
			edit(t, path, func(tx *bbolt.Tx) error { return tx.Bucket([]byte("leases")).Delete([]byte(fmt.Sprintf("%032x", 1))) })
		}, `it has 1 leases of "2"`},
		"no_number":            {in("meta", "count", nil), `it has 2 leases of ""`},
		"another_id":           {record(8, "[1]", ""), "it has another ID"},
		"port_of_another":      {record(7, "[20000]", ""), "port 20000 is leased twice"},
		"port_twice":           {record(7, "[1,1]", ""), `its "ports" is missing or wrong`},
		"no_ports":             {record(7, "[]", ""), `its "ports" is missing or wrong`},
		"port_zero":            {record(7, "[0]", ""), `its "ports" is missing or wrong`},
		"too_many_ports":       {record(7, "["+strings.Repeat("1,", 32)+"2]", ""), `its "ports" is missing or wrong`},
		"port_out_of_range":    {record(7, "[65536]", ""), "cannot unmarshal number 65536"},
		"unknown_field":        {record(7, "[1]", `,"color":"red"`), `unknown field "color"`},
		"two_records":          {record(7, "[1]", `}{"id":""`), "something follows it"},
		"huge_record":          {record(7, "[1]", `,"key":"`+strings.Repeat("k", 9000)+`"`), "bytes: want at most"},
		"endless_time":         {record(7, "[1]", `,"overstayed":9223372036854775807`), `its "overstayed" is missing or wrong`},
		"negative_wall_clock":  {record(7, "[1]", `,"overstayed_wall":-1`), `its "overstayed_wall" is missing or wrong`},
		"key_with_a_line_feed": {record(7, "[1]", `,"key":"a\nb"`), `its "key" is missing or wrong`},
		"directory":            {func(t *testing.T, path string) { must(t, os.Mkdir(path, 0o700)) }, "is not a regular file"},
		"fifo":                 {func(t *testing.T, path string) { must(t, unix.Mkfifo(path, 0o600)) }, "is not a regular file"},
		"symbolic_link":        {func(t *testing.T, path string) { must(t, os.Symlink("/etc/passwd", path)) }, "is not a regular file"},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "leases.db")
			test.make(t, path)
			before, _ := readRegular(path)
			s, err := lease.OpenFile(path, "here", fixedClock())
			if err == nil {
				list, err := s.Leases()
				t.Fatalf("it is opened, with %d leases, %v", len(list), errors.Join(err, s.Close()))
			}
			if !strings.Contains(err.Error(), test.want) || !strings.Contains(err.Error(), path) || !strings.Contains(err.Error(), "want ") {
				t.Errorf("error %q, want %q", err, test.want)
			}
			if after, err := readRegular(path); err != nil || !bytes.Equal(after, before) {
				t.Errorf("the file is another: %v", err)
			}
		})
	}
}

// readRegular returns the content of a regular file.
func readRegular(path string) ([]byte, error) {
	if info, err := os.Lstat(path); err != nil || !info.Mode().IsRegular() {
		return nil, err
	}
	return os.ReadFile(path)
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// TestNoDamageIsOpenedAsOtherLeases flips bits, and zeroes and exchanges pages. Either that does not matter or it is found. Without the last
// meta page a file is what it was before the last write, which here has changed nothing.
func TestNoDamageIsOpenedAsOtherLeases(t *testing.T) {
	t.Parallel()
	damages := 1000
	if testing.Short() {
		damages = 100
	}
	dir := t.TempDir()
	whole := filepath.Join(dir, "whole.db")
	want := fill(t, whole, 100)
	rewritten, err := lease.OpenFile(whole, "here", fixedClock())
	must(t, err)
	for range 2 {
		_, err := rewritten.Renew(t.Context(), want[0].ID)
		must(t, err)
	}
	must(t, rewritten.Close())
	content, err := os.ReadFile(whole)
	must(t, err)
	content = bytes.TrimRight(content, "\x00") // the rest is not used
	content = append(content, make([]byte, 4096-len(content)%4096)...)
	random := rand.New(rand.NewPCG(1, 2))
	found := 0
	for n := range damages {
		damaged := bytes.Clone(content)
		what := "bits"
		switch page := random.IntN(len(content)/4096) * 4096; n % 4 {
		case 0:
			what = "a page of zeros"
			clear(damaged[page : page+4096])
		case 1:
			what = "a page of another"
			copy(damaged[page:page+4096], content[random.IntN(len(content)/4096)*4096:])
		case 2:
			what = "the start of a page"
			damaged[page+random.IntN(64)] ^= 1 << random.IntN(8)
		default:
			for range 1 + random.IntN(3) {
				damaged[random.IntN(len(damaged))] ^= 1 << random.IntN(8)
			}
		}
		path := filepath.Join(dir, "damaged.db")
		must(t, os.WriteFile(path, damaged, 0o600))
		s, err := lease.OpenFile(path, "here", fixedClock())
		if err != nil {
			found++
			if !strings.Contains(err.Error(), "is damaged, or is not a store of leases") && !strings.Contains(err.Error(), "has version") {
				t.Errorf("damage %d, %s: %v", n, what, err)
			}
			continue
		}
		got, err := s.Leases()
		if diff := cmp.Diff(want, got); diff != "" || err != nil {
			t.Fatalf("damage %d, %s: %v (-want +got):\n%s", n, what, err, diff)
		}
		must(t, s.Close())
	}
	t.Logf("%d of %d damages were found", found, damages)
	if found < damages/4 {
		t.Errorf("only %d of %d damages were found", found, damages)
	}
}

// TestAnOlderStoreOpens with testdata/version1.db, which the first version wrote: it had no checksums.
func TestAnOlderStoreOpens(t *testing.T) {
	content, err := os.ReadFile("testdata/version1.db")
	must(t, err)
	path := filepath.Join(t.TempDir(), "leases.db")
	must(t, os.WriteFile(path, content, 0o600))
	id := func(pair string) string { return strings.Repeat(pair, 16) }
	want := []lease.Lease{
		{ID: id("0a"), Team: "ci", Name: "preview-17", Proto: "tcp", Ports: []uint16{30007, 30002}, UID: 1001, User: "gitlab-runner", Host: "build-2", Key: "job/4711", TTL: 10 * time.Minute, Deadline: time.Hour + 10*time.Minute},
		{ID: id("0b"), Team: "ci", Name: "preview-18", Proto: "udp", Ports: []uint16{30011}, User: "root", AnyUser: true, Host: "build-2", TTL: time.Hour, Deadline: 2 * time.Hour},
		{ID: id("0c"), Team: "load tests", Name: "load", Proto: "tcp", Ports: []uint16{31000}, UID: 4242, User: "4242", Host: "build-2", TTL: time.Minute, Deadline: time.Hour + time.Minute, Overstayed: time.Hour + 2*time.Minute},
	}
	for n := range 2 { // the second time it is of this version
		s, err := lease.OpenFile(path, "build-2", fixedClock())
		must(t, err)
		got, err := s.Leases()
		if diff := cmp.Diff(want, got); diff != "" || err != nil {
			t.Errorf("opened %d times before: %v (-want +got):\n%s", n, err, diff)
		}
		must(t, s.Close())
	}
	if now, err := os.ReadFile(path); err != nil || bytes.Equal(now, content) {
		t.Errorf("it has the old form: %v", err)
	}
}

// TestALeaseEndsAtItsTimeWhateverTheClocksDo: the wall clock only counts across a reboot, and then for no more than the TTL.
func TestALeaseEndsAtItsTimeWhateverTheClocksDo(t *testing.T) {
	const ttl = 10 * time.Minute
	for name, test := range map[string]struct {
		bootID     string
		boot, wall time.Duration // since the lease was given
		left       time.Duration // less than 0 if it has expired
	}{
		"same_boot":                          {"a", time.Minute, time.Minute, 9 * time.Minute},
		"same_boot_and_a_step_forward":       {"a", time.Minute, time.Hour, 9 * time.Minute},
		"same_boot_and_a_step_back":          {"a", time.Minute, -time.Hour, 9 * time.Minute},
		"same_boot_much_later":               {"a", time.Hour, time.Minute, -50 * time.Minute},
		"reboot":                             {"b", -30 * time.Minute, 2 * time.Minute, 8 * time.Minute},
		"reboot_of_a_host_with_a_longer_up":  {"b", time.Hour, 2 * time.Minute, 8 * time.Minute},
		"reboot_much_later":                  {"b", -time.Hour, 24 * time.Hour, ttl - 24*time.Hour},
		"reboot_and_a_step_back":             {"b", -time.Hour, -24 * time.Hour, ttl},
		"reboot_at_the_epoch":                {"b", -time.Hour, -1_800_003_540 * time.Second, ttl},
		"boot_id_is_not_known":               {"", time.Minute, 2 * time.Minute, 8 * time.Minute},
		"same_boot_with_a_clock_that_is_not": {"a", -time.Hour, 0, ttl},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "leases.db")
			clock := fixedClock()
			clock.BootID = "a"
			boot, wall := clock.Boot()+time.Hour, clock.Wall()
			clock.Boot = func() time.Duration { return boot }
			clock.Wall = func() time.Time { return wall }
			s, err := lease.OpenFile(path, "here", clock)
			must(t, err)
			l := numbered(1, 20000)
			l.TTL = ttl
			_, err = s.Take(t.Context(), l)
			must(t, errors.Join(err, s.Overstay(t.Context(), l.ID), s.Close()))
			clock.BootID = test.bootID
			boot, wall = boot+test.boot, wall.Add(test.wall)
			for n := range 3 { // each start keeps what the first one found
				s, err := lease.OpenFile(path, "here", clock)
				must(t, err)
				list, err := s.Leases()
				must(t, err)
				if left := list[0].Deadline - boot; left != test.left || list[0].Alive(boot) {
					t.Errorf("start %d: %s left, want %s", n, left, test.left)
				}
				since := max(0, test.wall)
				if test.bootID == "a" {
					since = test.boot
				}
				if got := boot - list[0].Overstayed; got != since {
					t.Errorf("start %d: overstayed for %s, want %s", n, got, since)
				}
				must(t, s.Close())
				if test.bootID == "b" { // in which the wall clock is of no matter now
					wall = wall.Add(-time.Hour)
				}
			}
		})
	}
}

func TestOneExporterHasTheFileOpen(t *testing.T) {
	path := filepath.Join(t.TempDir(), "leases.db")
	s, err := lease.OpenFile(path, "here", fixedClock())
	must(t, err)
	began := time.Now()
	_, err = lease.OpenFile(path, "here", fixedClock())
	want := "another exporter has " + path + " open: want one exporter on a host, or another --lease.file for each"
	if err == nil || !strings.Contains(err.Error(), want) || time.Since(began) > 10*time.Second {
		t.Errorf("after %s: %v", time.Since(began), err)
	}
	if _, err := s.Take(t.Context(), numbered(1, 20000)); err != nil {
		t.Error(err)
	}
	must(t, s.Close())
	s, err = lease.OpenFile(path, "here", fixedClock())
	must(t, err)
	must(t, s.Close())
	must(t, s.Close())
	if _, err := s.Take(t.Context(), numbered(2, 20002)); !errors.Is(err, lease.ErrAway) {
		t.Errorf("after Close: %v", err)
	}
}

// TestTheFileIsItsOwnersOnly, as its directory is, which a start makes. What a start that was killed has left is no trouble.
func TestTheFileIsItsOwnersOnly(t *testing.T) {
	for name, left := range map[string]string{"nothing": "", "nothing_but_a_name": "empty", "half_a_file": strings.Repeat("\x00", 5000)} {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "a", "b")
			path := filepath.Join(dir, "leases.db")
			if left != "" {
				must(t, os.MkdirAll(dir, 0o700))
				must(t, os.WriteFile(path+".new", []byte(strings.TrimPrefix(left, "empty")), 0o600))
			}
			fill(t, path, 1)
			for path, want := range map[string]fs.FileMode{path: 0o600, path + ".lock": 0o600, dir: fs.ModeDir | 0o700, filepath.Dir(dir): fs.ModeDir | 0o700} {
				if info, err := os.Stat(path); err != nil || info.Mode() != want {
					t.Errorf("%s has mode %s, want %s: %v", path, info.Mode(), want, err)
				}
			}
			if entries, err := os.ReadDir(dir); err != nil || len(entries) != 2 { // with the lock
				t.Errorf("%v, %v", entries, err)
			}
		})
	}
}

// TestAFullDiskEndsNoLease: what is held stays, and once there is space the store works again by itself.
func TestAFullDiskEndsNoLease(t *testing.T) {
	netnstest.Run(t, func(t *testing.T) {
		dir := t.TempDir()
		if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=256k"); err != nil {
			t.Skipf("needs to mount a file system: %v", err)
		}
		t.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) })
		path := filepath.Join(dir, "leases.db")
		s, err := lease.OpenFile(path, "here", fixedClock())
		must(t, err)
		held, err := s.Take(t.Context(), numbered(1, 20000))
		must(t, err)
		filler := filepath.Join(dir, "filler")
		_ = os.WriteFile(filler, make([]byte, 1<<20), 0o600)
		var full error
		given := []lease.Lease{held}
		for n := 2; full == nil && n < 500; n++ {
			var l lease.Lease
			if l, full = s.Take(t.Context(), numbered(n, uint16(20000+n))); full == nil {
				given = append(given, l)
			}
		}
		if !errors.Is(full, lease.ErrAway) || !strings.Contains(full.Error(), "want free space there") {
			t.Fatalf("on a full disk: %v", full)
		}
		if list, err := s.Leases(); !errors.Is(err, lease.ErrAway) || !cmp.Equal(list, given) {
			t.Errorf("%d leases of %d: %v", len(list), len(given), err)
		}
		for range 10 { // it is tried again meanwhile
			if err := s.Unwritable(); !errors.Is(err, lease.ErrAway) {
				t.Errorf("while the disk is full: %v", err)
			}
			time.Sleep(500 * time.Millisecond)
		}
		if _, err := s.Renew(t.Context(), held.ID); err != nil || s.Unwritable() == nil {
			t.Errorf("Renew, which needs no space: %v, and then %v", err, s.Unwritable())
		}
		must(t, os.Remove(filler))
		must(t, host.Await(time.Minute, func() error { // also while there is always something else to do
			_, err := s.Renew(t.Context(), held.ID)
			return errors.Join(err, s.Unwritable())
		}))
		must(t, s.Close())
		s, err = lease.OpenFile(path, "here", fixedClock())
		must(t, err)
		if list, err := s.Leases(); err != nil || !cmp.Equal(list, given) {
			t.Errorf("%d leases of %d: %v", len(list), len(given), err)
		}
		must(t, s.Close())
	})
}

// TestADiskThatHangsIsReportedUntilItAnswers: whoever wants a lease gives up, and then all see it, without asking the disk. The disk is a
// FUSE that nobody serves.
func TestADiskThatHangsIsReportedUntilItAnswers(t *testing.T) {
	netnstest.Run(t, func(t *testing.T) {
		dir := t.TempDir()
		path := filepath.Join(dir, "leases.db")
		s, err := lease.OpenFile(path, "here", fixedClock())
		must(t, err)
		held, err := s.Take(t.Context(), numbered(1, 20000))
		must(t, err)
		fuse, err := unix.Open("/dev/fuse", unix.O_RDWR|unix.O_CLOEXEC, 0)
		if err != nil {
			t.Skipf("needs FUSE: %v", err)
		}
		if err := unix.Mount("hangs", dir, "fuse", 0, fmt.Sprintf("fd=%d,rootmode=40000,user_id=0,group_id=0", fuse)); err != nil {
			_ = unix.Close(fuse)
			t.Skipf("needs to mount a file system: %v", err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := s.Renew(ctx, held.ID); !errors.Is(err, context.Canceled) {
			t.Errorf("Renew for somebody who has gone: %v", err)
		}
		if _, err := s.Leases(); err != nil {
			t.Errorf("before anybody has waited for long: %v", err)
		}
		if _, err := s.Renew(t.Context(), held.ID); !errors.Is(err, lease.ErrAway) || !strings.Contains(err.Error(), "does not answer") {
			t.Errorf("Renew: %v", err)
		}
		if list, err := s.Leases(); !errors.Is(err, lease.ErrAway) || !cmp.Equal(list, []lease.Lease{held}) {
			t.Errorf("%+v: %v", list, err)
		}
		must(t, errors.Join(unix.Unmount(dir, unix.MNT_DETACH), unix.Close(fuse))) // which ends what hangs, and shows the directory again
		must(t, host.Await(time.Minute, func() error { _, err := s.Leases(); return err }))
		_, err = s.Renew(t.Context(), held.ID)
		must(t, errors.Join(err, s.Close()))
	})
}

// TestAFileThatIsGoneIsWrittenAgain: what the next start reads has all leases that were given.
func TestAFileThatIsGoneIsWrittenAgain(t *testing.T) {
	for name, spoil := range map[string]func(path string) error{
		"deleted": os.Remove,
		"moved":   func(path string) error { return os.Rename(path, path+".old") },
		"replaced": func(path string) error {
			return errors.Join(os.Remove(path), os.WriteFile(path, []byte("something else"), 0o600))
		},
		"a link":                    func(path string) error { return errors.Join(os.Remove(path), os.Symlink("/dev/null", path)) },
		"its directory for a while": func(path string) error { return os.Rename(filepath.Dir(path), filepath.Dir(path)+".old") },
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "state", "leases.db")
			s, err := lease.OpenFile(path, "here", fixedClock())
			must(t, err)
			first, err := s.Take(t.Context(), numbered(1, 20000))
			must(t, err)
			must(t, spoil(path))
			second, err := s.Take(t.Context(), numbered(2, 20002))
			if _, gone := os.Stat(filepath.Dir(path)); gone != nil {
				if !errors.Is(err, lease.ErrAway) {
					t.Errorf("without a directory: %v", err)
				}
				must(t, os.Mkdir(filepath.Dir(path), 0o700))
				second, err = s.Take(t.Context(), numbered(2, 20002))
			}
			must(t, err)
			must(t, s.Close())
			s, err = lease.OpenFile(path, "here", fixedClock())
			must(t, err)
			if list, err := s.Leases(); err != nil || !cmp.Equal(list, []lease.Lease{first, second}) {
				t.Errorf("after the next start: %+v: %v", list, err)
			}
			must(t, s.Close())
		})
	}
}

// FuzzStoredRecord: a record is refused, or is what the store has when it is opened again.
func FuzzStoredRecord(f *testing.F) {
	f.Add([]byte(fmt.Sprintf(recordForm, 7, "[30001,30000]", `,"key":"job 1","any_user":true,"overstayed":-5,"overstayed_wall":9`)))
	f.Add([]byte(fmt.Sprintf(recordForm, 7, "[1]", "")))
	f.Add([]byte(`{"id":"00000000000000000000000000000007"}`))
	f.Add([]byte(`[]`))
	dir := "/dev/shm" // where nothing waits for a disk
	if _, err := os.Stat(dir); err != nil {
		dir = ""
	}
	f.Fuzz(func(t *testing.T, record []byte) {
		dir, err := os.MkdirTemp(dir, "leases")
		must(t, err)
		defer func() { _ = os.RemoveAll(dir) }()
		path := filepath.Join(dir, "leases.db")
		fill(t, path, 0)
		edit(t, path, func(tx *bbolt.Tx) error {
			_ = tx.Bucket([]byte("meta")).Put([]byte("count"), []byte("1"))
			return tx.Bucket([]byte("leases")).Put([]byte(fmt.Sprintf("%032x", 7)), stored(string(record)))
		})
		s, err := lease.OpenFile(path, "here", fixedClock())
		if err != nil {
			return
		}
		first, _ := s.Leases()
		must(t, s.Close())
		s, err = lease.OpenFile(path, "here", fixedClock())
		must(t, err)
		if second, _ := s.Leases(); len(first) != 1 || !cmp.Equal(first, second) {
			t.Errorf("%+v, and then %+v", first, second)
		}
		must(t, s.Close())
	})
}
