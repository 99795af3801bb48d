package main

import (
	"errors"
	"fmt"
	"os"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// tiny is a process of a load of thousands: a fork of this program that never runs another one, so that all of them share their
// memory, and that sleeps once it has opened what it is there to hold.
type tiny struct {
	name     string
	cgroup   int    // an open directory of the cgroup2 hierarchy that it is born in; 0: this program's
	newNet   bool   // it has a network namespace of its own
	tcp, udp uint16 // the ports on which it listens, on every IPv4 address; 0: none
	files    int    // how often it opens /dev/null
	siblings int    // how many processes it starts, before all that, that hold nothing
}

// cloneArgs is struct clone_args of include/uapi/linux/sched.h, as Linux 5.7 has it.
type cloneArgs struct {
	flags, pidFD, childTID, parentTID, exitSignal, stack, stackSize, tls, setTID, setTIDSize, cgroup uint64
}

// plan is what the new process needs, ready made: a fork of a Go program has but one thread and may not enter the runtime, so it
// can only make system calls.
type plan struct {
	self, sibling cloneArgs
	name          [16]byte // TASK_COMM_LEN
	file          [10]byte
	tcp, udp      unix.RawSockaddrInet4
	files         int
	siblings      int
	ready         int
}

// start starts the process and returns its number once it holds everything.
func (t tiny) start() (pid int, err error) {
	var pipe [2]int
	if err := unix.Pipe2(pipe[:], unix.O_CLOEXEC); err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, unix.Close(pipe[0])) }()
	p := plan{files: t.files, siblings: t.siblings, ready: pipe[1]}
	p.self.exitSignal, p.sibling.exitSignal = uint64(syscall.SIGCHLD), uint64(syscall.SIGCHLD)
	if t.cgroup != 0 {
		p.self.flags |= unix.CLONE_INTO_CGROUP
		p.self.cgroup = uint64(t.cgroup)
	}
	if t.newNet {
		p.self.flags |= unix.CLONE_NEWNET
	}
	copy(p.name[:len(p.name)-1], t.name)
	copy(p.file[:], os.DevNull)
	for _, one := range []struct {
		address *unix.RawSockaddrInet4
		port    uint16
	}{{&p.tcp, t.tcp}, {&p.udp, t.udp}} {
		if one.port != 0 {
			*one.address = unix.RawSockaddrInet4{Family: unix.AF_INET, Port: one.port<<8 | one.port>>8}
		}
	}
	pid, errno := p.fork()
	if err := unix.Close(pipe[1]); err != nil {
		return 0, err
	}
	if errno != 0 {
		return 0, fmt.Errorf("clone3: %w", errno)
	}
	var answer [1]byte
	switch n, err := unix.Read(pipe[0], answer[:]); {
	case err != nil:
		return 0, err
	case n == 0:
		return 0, errors.New("a process of the load died")
	case answer[0] != 0:
		return 0, fmt.Errorf("a process of the load: %w", syscall.Errno(answer[0]))
	}
	return pid, nil
}

// fork returns the number of the new process, in which it never returns.
//
//go:nosplit
//go:norace
func (p *plan) fork() (int, syscall.Errno) {
	pid, _, errno := unix.RawSyscall(unix.SYS_CLONE3, uintptr(unsafe.Pointer(&p.self)), unsafe.Sizeof(p.self), 0)
	if errno != 0 || pid != 0 {
		return int(pid), errno
	}
	answer := byte(p.hold())
	_, _, _ = unix.RawSyscall(unix.SYS_WRITE, 0, uintptr(unsafe.Pointer(&answer)), 1)
	sleep()
	return 0, 0
}

// sleep closes the pipe to the parent and sleeps until the process is killed.
//
//go:nosplit
//go:norace
func sleep() {
	_, _, _ = unix.RawSyscall(unix.SYS_CLOSE, 0, 0, 0)
	for {
		_, _, _ = unix.RawSyscall6(unix.SYS_PPOLL, 0, 0, 0, 0, 0, 0)
	}
}

// hold closes what the process inherited, but for the pipe, which becomes 0, and opens what it is to hold.
//
//go:nosplit
//go:norace
func (p *plan) hold() syscall.Errno {
	if _, _, errno := unix.RawSyscall(unix.SYS_DUP3, uintptr(p.ready), 0, 0); errno != 0 {
		return errno
	}
	if _, _, errno := unix.RawSyscall(unix.SYS_CLOSE_RANGE, 1, uintptr(^uint32(0)), 0); errno != 0 {
		return errno
	}
	_, _, _ = unix.RawSyscall(unix.SYS_PRCTL, unix.PR_SET_NAME, uintptr(unsafe.Pointer(&p.name)), 0)
	for range p.siblings {
		pid, _, errno := unix.RawSyscall(unix.SYS_CLONE3, uintptr(unsafe.Pointer(&p.sibling)), unsafe.Sizeof(p.sibling), 0)
		if errno != 0 {
			return errno
		}
		if pid == 0 {
			sleep()
		}
	}
	if p.tcp.Family != 0 {
		if errno := bound(unix.SOCK_STREAM, &p.tcp); errno != 0 {
			return errno
		}
	}
	if p.udp.Family != 0 {
		if errno := bound(unix.SOCK_DGRAM, &p.udp); errno != 0 {
			return errno
		}
	}
	for range p.files {
		if _, _, errno := unix.RawSyscall(unix.SYS_OPENAT, 0, uintptr(unsafe.Pointer(&p.file)), unix.O_RDONLY); errno != 0 {
			return errno
		}
	}
	return 0
}

// bound opens a socket at the address. A stream listens there.
//
//go:nosplit
//go:norace
func bound(kind uintptr, address *unix.RawSockaddrInet4) syscall.Errno {
	fd, _, errno := unix.RawSyscall(unix.SYS_SOCKET, unix.AF_INET, kind, 0)
	if errno != 0 {
		return errno
	}
	if _, _, errno := unix.RawSyscall(unix.SYS_BIND, fd, uintptr(unsafe.Pointer(address)), unix.SizeofSockaddrInet4); errno != 0 {
		return errno
	}
	if kind == unix.SOCK_STREAM {
		_, _, errno = unix.RawSyscall(unix.SYS_LISTEN, fd, unix.SOMAXCONN, 0)
	}
	return errno
}

// end ends processes that start returned and waits until they are gone.
func end(pids ...int) error {
	for _, pid := range pids {
		if err := unix.Kill(pid, unix.SIGKILL); err != nil {
			return err
		}
	}
	for _, pid := range pids {
		for {
			_, err := unix.Wait4(pid, nil, 0, nil)
			if errors.Is(err, unix.EINTR) {
				continue
			}
			if err != nil {
				return err
			}
			break
		}
	}
	return nil
}
