//go:build linux

package tools

import (
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/listen-exporter/listen_exporter/test/host"
)

// SARIFLog is what tests read of a SARIF log.
type SARIFLog struct {
	Runs []struct {
		Tool        struct{ Driver struct{ Rules []SARIFRule } }
		Invocations []struct {
			ExecutionSuccessful        bool
			ToolExecutionNotifications []SARIFResult
		}
		Results []SARIFResult
	}
}

// SARIFRule is a rule of a tool.
type SARIFRule struct {
	ID               string
	ShortDescription struct{ Text string }
}

// SARIFResult is a result or a notification.
type SARIFResult struct {
	RuleID      string
	RuleIndex   int
	Kind, Level string
	Message     struct{ Text string }
	Locations   []struct {
		PhysicalLocation struct {
			ArtifactLocation struct{ URI string }
			Region           struct{ StartLine, StartColumn int }
		}
		LogicalLocations []struct{ Name, Kind string }
	}
}

// SARIF validates a SARIF log against the schema of SARIF 2.1.0, and returns it.
func SARIF(t testing.TB, text string) (log SARIFLog) {
	t.Helper()
	schema := filepath.Join(host.Root, ".tools", "sarif-schema-2.1.0.json")
	if _, err := os.Stat(schema); errors.Is(err, fs.ErrNotExist) {
		t.Skip("needs the schema of SARIF; .ci/tools sarif-schema fetches it")
	}
	compiler := jsonschema.NewCompiler()
	compiler.AssertFormat()
	compiled, err := compiler.Compile(schema)
	if err != nil {
		t.Fatal(err)
	}
	value, err := jsonschema.UnmarshalJSON(strings.NewReader(text))
	if err != nil {
		t.Fatalf("%v:\n%s", err, text)
	}
	if err := compiled.Validate(value); err != nil {
		t.Fatalf("%v:\n%s", err, text)
	}
	if err := json.Unmarshal([]byte(text), &log); err != nil {
		t.Fatal(err)
	}
	return log
}
