//go:build linux

package lease

// OnStep has a function called between the steps of a manager's operations.
func OnStep(m *Manager, do func(name string)) { m.onStep = do }
