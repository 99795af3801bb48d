//go:build linux

package api

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/user"
	"strconv"

	"go.yaml.in/yaml/v3"
	"golang.org/x/crypto/bcrypt"

	"github.com/listen-exporter/listen_exporter/internal/wording"
)

// peer returns who has sent a request over a Unix socket.
func peer(r *http.Request) (uint32, error) {
	conn := connectionOf(r)
	if conn.unsure != nil {
		return 0, &Error{Status: http.StatusForbidden, Message: "who asks is not known: " + conn.unsure.Error()}
	}
	return conn.uid, nil
}

// account returns the local user who has the name with which a request is authenticated. The file is that of --web.config.file.
//
// exporter-toolkit has checked the password by now, but not if it read a file without users, as while the file is being written. So it is
// checked here, by one reading of the file.
func account(r *http.Request, file string) (uint32, error) {
	hashes, err := passwords(file)
	if err != nil {
		return 0, err
	}
	name, password, _ := r.BasicAuth()
	hash, known := hashes[name]
	if !known || bcrypt.CompareHashAndPassword([]byte(hash), []byte(password)) != nil {
		return 0, &Error{Status: http.StatusUnauthorized, Message: "want the name and password of a user in basic_auth_users of --web.config.file"}
	}
	local, err := user.Lookup(name)
	if unknown := user.UnknownUserError(""); errors.As(err, &unknown) {
		return 0, &Error{Status: http.StatusForbidden, Message: fmt.Sprintf("%s is no user of this host: want one of the same name in basic_auth_users", wording.Quoted(name))}
	}
	if err != nil {
		return 0, err
	}
	uid, err := strconv.ParseUint(local.Uid, 10, 32)
	return uint32(uid), err
}

// passwords returns the hashes of the passwords in a file for exporter-toolkit.
func passwords(file string) (map[string]string, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	var config struct {
		Users map[string]string `yaml:"basic_auth_users"`
	}
	return config.Users, yaml.Unmarshal(text, &config)
}
