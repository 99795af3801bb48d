// Package guard makes an error of a panic, for work that must not end the program.
package guard

import (
	"fmt"
	"runtime/debug"
)

// Panic is the error of work that panicked.
type Panic struct {
	// Value is what it panicked with.
	Value any
	stack []byte
}

// Error returns the value of the panic, but not the stack.
func (p *Panic) Error() string { return fmt.Sprintf("panic: %v", p.Value) }

// Stack returns the stack of the goroutine that panicked, as [debug.Stack] does.
func (p *Panic) Stack() []byte { return p.stack }

// Do calls do and returns its error, or a *[Panic].
func Do(do func() error) (err error) {
	defer func() {
		if value := recover(); value != nil {
			err = &Panic{value, debug.Stack()}
		}
	}()
	return do()
}
