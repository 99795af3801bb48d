//go:build linux && !race

package program

const raceDetector = false
