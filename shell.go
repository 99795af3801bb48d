//go:build linux

package main

import (
	"github.com/alecthomas/kingpin/v2"

	"github.com/listen-exporter/listen_exporter/internal/completion"
)

const fishFlag = "completion-script-fish"

// completionScripts returns the scripts for shells, by the flag that prints them.
func completionScripts() map[string]func(*kingpin.ApplicationModel, completion.Shared) string {
	return map[string]func(*kingpin.ApplicationModel, completion.Shared) string{
		"completion-script-bash": completion.Bash,
		"completion-script-zsh":  completion.Zsh,
		fishFlag:                 completion.Fish,
	}
}
