//go:build linux

package api

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-kit/log"
	"github.com/google/go-cmp/cmp"
	"github.com/santhosh-tekuri/jsonschema/v6"
	"go.yaml.in/yaml/v3"

	"github.com/listen-exporter/listen_exporter/internal/lease"
	"github.com/listen-exporter/listen_exporter/test/host"
	"github.com/listen-exporter/listen_exporter/test/tools"
)

// object is an object of the document.
type object = map[string]any

// document returns docs/leases.openapi.yml, and the schemas in it.
func document(t *testing.T) (object, *jsonschema.Compiler) {
	t.Helper()
	var doc object
	if err := yaml.Unmarshal([]byte(tools.Read(t, filepath.Join(host.Root, "docs/leases.openapi.yml"))), &doc); err != nil {
		t.Fatal(err)
	}
	compiler := jsonschema.NewCompiler()
	compiler.AssertFormat()
	if err := compiler.AddResource("leases.json", doc); err != nil {
		t.Fatal(err)
	}
	return doc, compiler
}

// find returns what is at a path of keys, through references.
func find(t *testing.T, doc object, keys ...string) object {
	t.Helper()
	at := doc
	for _, key := range keys {
		next, is := at[key].(object)
		if !is {
			t.Fatalf("there is no %s in %q", key, keys)
		}
		if ref, is := next["$ref"].(string); is {
			next = find(t, doc, strings.Split(strings.TrimPrefix(ref, "#/"), "/")...)
		}
		at = next
	}
	return at
}

func TestTheDocumentHasTheFieldsOfTheAPI(t *testing.T) {
	doc, _ := document(t)
	for name, kinds := range map[string][]any{
		"Request": {Request{}}, "Lease": {Lease{}}, "Team": {Team{}}, "Listing": {Listing{}}, "Holder": {Holder{}},
		"Error": {Error{}}, "Exhausted": {Error{}, Exhausted{}},
	} {
		schema := find(t, doc, "components", "schemas", name)
		var fields, required []string
		for _, kind := range kinds {
			for field := range reflect.TypeOf(kind).Fields() {
				name, options, _ := strings.Cut(field.Tag.Get("json"), ",")
				if name == "" || name == "-" || name == "field" && len(kinds) > 1 {
					continue
				}
				fields = append(fields, name)
				if options == "" {
					required = append(required, name)
				}
			}
		}
		var documented, always []string
		for field := range schema["properties"].(object) {
			documented = append(documented, field)
		}
		for _, field := range append([]any{}, list(schema["required"])...) {
			always = append(always, field.(string))
		}
		for _, names := range [][]string{fields, required, documented, always} {
			slices.Sort(names)
		}
		if diff := cmp.Diff(fields, documented); diff != "" {
			t.Errorf("fields of %s (-API +document):\n%s", name, diff)
		}
		if diff := cmp.Diff(required, always); diff != "" {
			t.Errorf("fields that %s always has (-API +document):\n%s", name, diff)
		}
	}
	properties := find(t, doc, "components", "schemas", "Request", "properties")
	limits := fmt.Sprintf("%v %v", properties["count"].(object)["maximum"], properties["ttl"].(object)["default"])
	if want := fmt.Sprintf("%v %v", lease.MaxCount, Duration(lease.DefaultTTL)); limits != want {
		t.Errorf("the document has the limits %q, want %q", limits, want)
	}
}

func list(value any) []any {
	l, _ := value.([]any)
	return l
}

// TestTheDocumentHasEachAnswer has the handler give each answer that it can give, and compares these with the document: the paths and
// methods, the statuses, and the bodies.
func TestTheDocumentHasEachAnswer(t *testing.T) {
	doc, schemas := document(t)
	var seen, documented []string
	away := fmt.Errorf("take: %w", lease.ErrAway)
	exhausted := &lease.ExhaustedError{Team: "ci", Count: 1, Size: 2, Holders: []lease.PortHolder{{Port: 1, Why: "in use"}, {Port: 2, Why: "leased", Name: "web", User: "7", Host: "here", Expires: 1}}}
	refused := func(status int) error { return &Error{Status: status, Message: "no"} }
	for _, c := range []struct {
		operation string
		bodies    []string // the first one is good
		fails     []error  // of the manager
	}{
		{"GET /api/v1/leases", []string{""}, []error{errors.New("a bug")}},
		{
			"POST /api/v1/leases",
			[]string{"{}", `{"key": "k"}`, "", strings.Repeat(" ", maxBody+1), "text"},
			[]error{&lease.FieldError{Field: "name"}, &lease.NotAllowedError{}, exhausted, &lease.LimitError{}, away, errors.New("a bug")},
		},
		{
			"POST /api/v1/leases/{id}/renew",
			[]string{"", "{}", `{"ttl": "1s"}`, strings.Repeat(" ", maxBody+1), "text"},
			[]error{lease.ErrNotYours, &lease.WithdrawnError{Why: "port 1"}, lease.ErrNoLease, away, errors.New("a bug")},
		},
		{
			"DELETE /api/v1/leases/{id}",
			[]string{"", `{"ttl": "1s"}`, strings.Repeat(" ", maxBody+1), "text"},
			[]error{lease.ErrNotYours, lease.ErrNoLease, away, errors.New("a bug")},
		},
	} {
		method, path, _ := strings.Cut(c.operation, " ")
		ask := func(body string, fails, who error) {
			leases := &fake{fails: fails, away: lease.ErrAway, leases: map[string]lease.Lease{
				anID: {ID: anID, Team: "ci", Name: "web", Proto: "tcp", Ports: []uint16{1}, UID: 7, User: "7", Host: "here", Key: "k", TTL: time.Second, Deadline: time.Second},
			}}
			h := &handler{
				leases: leases, host: "here", logger: log.NewNopLogger(),
				who: func(*http.Request) (uint32, error) { return 7, who }, begin: func(*http.Request) bool { return true },
			}
			request := httptest.NewRequest(method, strings.Replace(path, "{id}", anID, 1), strings.NewReader(body))
			if request.Header.Set("Content-Type", "application/json"); body == "text" {
				request.Header.Set("Content-Type", "text/plain")
			}
			recorder := httptest.NewRecorder()
			h.mux().ServeHTTP(recorder, request)
			status := fmt.Sprint(recorder.Code)
			seen = append(seen, c.operation+" "+status)
			at := []string{"paths", path, strings.ToLower(method), "responses"}
			if find(t, doc, at...)[status] == nil {
				return
			}
			kind := find(t, doc, append(at, status)...)
			schema := kind["content"].(object)["application/json"].(object)["schema"].(object)["$ref"].(string)
			body = recorder.Body.String()
			value, err := jsonschema.UnmarshalJSON(strings.NewReader(body))
			if err == nil {
				err = schemas.MustCompile("leases.json" + schema).Validate(value)
			}
			if err != nil {
				t.Errorf("%s %s: %s is not as documented: %v", c.operation, status, body, err)
			}
			if (recorder.Header().Get("Retry-After") != "") != (kind["headers"] != nil) {
				t.Errorf("%s %s has the header %v, want as documented: %v", c.operation, status, recorder.Header(), kind["headers"])
			}
		}
		for _, body := range c.bodies {
			ask(body, nil, nil)
		}
		for _, fails := range c.fails {
			ask(c.bodies[0], fails, nil)
		}
		ask(c.bodies[0], nil, refused(http.StatusUnauthorized))
		ask(c.bodies[0], nil, refused(http.StatusForbidden))
	}
	for path, item := range doc["paths"].(object) {
		for method, operation := range item.(object) {
			if method == "parameters" {
				continue
			}
			for status := range operation.(object)["responses"].(object) {
				documented = append(documented, strings.ToUpper(method)+" "+path+" "+status)
			}
		}
	}
	slices.Sort(seen)
	slices.Sort(documented)
	if diff := cmp.Diff(slices.Compact(seen), documented); diff != "" {
		t.Errorf("the answers (-API +document):\n%s", diff)
	}
}

func TestTheDocumentHasEachPathAndMethod(t *testing.T) {
	doc, _ := document(t)
	var has, documented []string
	for path, operations := range new(handler).operations() {
		for method := range operations {
			has = append(has, strings.ToLower(method)+" "+path)
		}
	}
	for path, item := range doc["paths"].(object) {
		for method := range item.(object) {
			if method != "parameters" {
				documented = append(documented, method+" "+path)
			}
		}
	}
	slices.Sort(has)
	slices.Sort(documented)
	if diff := cmp.Diff(has, documented); diff != "" {
		t.Errorf("(-API +document):\n%s", diff)
	}
}
