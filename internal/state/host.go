//go:build linux

package state

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"os"
	"strings"
)

// Machine returns what identifies the machine on which the program runs: a copy of it is another one. Where /etc/machine-id cannot be
// read, as in a container, that is its name.
func Machine(name string) string {
	// During the first boot of a machine the file is empty, or says "uninitialized". See machine-id(5).
	id, err := os.ReadFile("/etc/machine-id")
	text := strings.TrimSpace(string(id))
	if err != nil || len(text) != 32 {
		return "name " + name
	}
	// The ID is confidential, and must not leave the machine with a file. machine-id(5) asks for a keyed hash.
	hash := hmac.New(sha256.New, []byte(text))
	hash.Write([]byte(magic))
	return "id " + hex.EncodeToString(hash.Sum(nil)[:16])
}
