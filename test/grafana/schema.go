//go:build linux

package grafana

import (
	"encoding/json"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/listen-exporter/listen_exporter/test/host"
)

// Schema has Grafana's own Go types of dashboards, panels and queries, which are generated from its schema. They are read, not
// compiled: that would take the processor time of all other tests of the examples.
type Schema struct {
	types map[string]ast.Expr // by package and name, such as table.Options
	enums map[string][]string // values in JSON, by the name of the type
}

// LoadSchema reads the types. Without them the test is skipped.
func LoadSchema(t testing.TB) *Schema {
	t.Helper()
	dir := filepath.Join(host.Root, ".tools", "grafana-schema")
	if _, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) {
		t.Skip("needs Grafana's types; .ci/tools grafana-schema fetches them")
	}
	s := &Schema{types: make(map[string]ast.Expr), enums: make(map[string][]string)}
	files, err := filepath.Glob(filepath.Join(dir, "*.go"))
	if err != nil || len(files) == 0 {
		t.Fatalf("%s is empty: %v", dir, err)
	}
	for _, file := range files {
		parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		for _, declaration := range parsed.Decls {
			if general, ok := declaration.(*ast.GenDecl); ok {
				for _, spec := range general.Specs {
					s.add(parsed.Name.Name, spec)
				}
			}
		}
	}
	return s
}

func (s *Schema) add(pkg string, spec ast.Spec) {
	switch spec := spec.(type) {
	case *ast.TypeSpec:
		s.types[pkg+"."+spec.Name.Name] = spec.Type
	case *ast.ValueSpec:
		kind, named := spec.Type.(*ast.Ident)
		for _, value := range spec.Values {
			if literal, ok := value.(*ast.BasicLit); ok && named {
				s.enums[pkg+"."+kind.Name] = append(s.enums[pkg+"."+kind.Name], literal.Value)
			}
		}
	}
}

// Check returns how the dashboard differs from Grafana's types.
func (s *Schema) Check(text string) ([]string, error) {
	var value map[string]any
	if err := json.Unmarshal([]byte(text), &value); err != nil {
		return nil, err
	}
	delete(value, "__requires") // only of a file that is imported
	c := check{Schema: s}
	c.named(".", "dashboard.Dashboard", value)
	return c.faults, nil
}

type check struct {
	*Schema
	faults []string
}

func (c *check) fault(at, format string, values ...any) {
	c.faults = append(c.faults, at+" "+fmt.Sprintf(format, values...))
}

// kind compares a value with a type of a package.
func (c *check) kind(at, pkg string, kind ast.Expr, value any) {
	ok := true
	switch kind := kind.(type) {
	case *ast.StarExpr:
		if value != nil {
			c.kind(at, pkg, kind.X, value)
		}
	case *ast.SelectorExpr:
		c.named(at, kind.X.(*ast.Ident).Name+"."+kind.Sel.Name, value)
	case *ast.ArrayType:
		var list []any
		list, ok = value.([]any)
		for n, element := range list {
			c.kind(at+"["+strconv.Itoa(n)+"]", pkg, kind.Elt, element)
		}
	case *ast.MapType:
		var object map[string]any
		object, ok = value.(map[string]any)
		for _, name := range slices.Sorted(maps.Keys(object)) {
			c.kind(at+"."+name, pkg, kind.Value, object[name])
		}
	case *ast.Ident:
		switch kind.Name {
		case "any":
		case "string":
			_, ok = value.(string)
		case "bool":
			_, ok = value.(bool)
		case "float64", "float32":
			_, ok = value.(float64)
		case "int64", "int32", "int", "uint8", "uint16", "uint32", "uint64":
			number, is := value.(float64)
			ok = is && number == float64(int64(number))
		default:
			c.named(at, pkg+"."+kind.Name, value)
		}
	default:
		c.fault(at, "has a type that the test does not know: %T", kind)
	}
	if !ok {
		c.fault(at, "is %v, want %v", value, reflect.TypeOf(kind))
	}
}

// named compares a value with a type by its name.
func (c *check) named(at, name string, value any) {
	pkg, short, _ := strings.Cut(name, ".")
	structure, isStruct := c.types[name].(*ast.StructType)
	switch {
	case name == "variants.Dataquery":
		c.named(at, "prometheus.Dataquery", value)
	case c.types[name] == nil:
		c.fault(at, "has a type that the test does not know: %s", name)
	case c.enums[name] != nil:
		if text, _ := json.Marshal(value); !slices.Contains(c.enums[name], string(text)) {
			c.fault(at, "is %s, want one of %v", text, c.enums[name])
		}
	case !isStruct:
		c.kind(at, pkg, c.types[name], value)
	case strings.Contains(short, "Or") && fields(structure)[structure.Fields.List[0].Names[0].Name] != nil:
		c.union(at, pkg, structure, value)
	default:
		c.structure(at, name, structure, value)
	}
}

// union compares a value with the types of which it may have one. Of more, the one with the fewest faults counts.
func (c *check) union(at, pkg string, structure *ast.StructType, value any) {
	var best []string
	for n, field := range structure.Fields.List {
		one := check{Schema: c.Schema}
		one.kind(at, pkg, field.Type, value)
		if n == 0 || len(one.faults) < len(best) {
			best = one.faults
		}
	}
	c.faults = append(c.faults, best...)
}

func (c *check) structure(at, name string, structure *ast.StructType, value any) {
	object, ok := value.(map[string]any)
	if !ok {
		c.fault(at, "is %v, want %s", value, name)
		return
	}
	known := fields(structure)
	pkg, _, _ := strings.Cut(name, ".")
	for _, key := range slices.Sorted(maps.Keys(object)) {
		field := known[key]
		switch {
		case field == nil:
			c.fault(at, "has the field %q, which %s has not", key, name)
		case name == "dashboard.Panel" && key == "options":
			c.named(at+"."+key, fmt.Sprintf("%s.Options", object["type"]), object[key])
		case name == "dashboard.FieldConfig" && key == "custom":
			c.custom(at+"."+key, object[key])
		default:
			c.kind(at+"."+key, pkg, field.Type, object[key])
		}
	}
	for _, key := range slices.Sorted(maps.Keys(known)) {
		// A link of a value is a link of a dashboard in the types, and has fewer fields in Grafana.
		if _, given := object[key]; !given && !strings.Contains(known[key].Tag.Value, ",omitempty") && name != "dashboard.DashboardLink" {
			c.fault(at, "lacks the field %q of %s", key, name)
		}
	}
}

// custom compares the settings that only one kind of panel has. The panel is above the value.
func (c *check) custom(at string, value any) {
	name := "common.GraphFieldConfig"
	if object, ok := value.(map[string]any); ok && object["cellOptions"] != nil {
		name = "common.TableFieldOptions"
	}
	c.named(at, name, value)
}

// fields returns the fields of a structure by their names in JSON.
func fields(structure *ast.StructType) map[string]*ast.Field {
	byName := make(map[string]*ast.Field)
	for _, field := range structure.Fields.List {
		tag, _ := strconv.Unquote(field.Tag.Value)
		name, _, _ := strings.Cut(reflect.StructTag(tag).Get("json"), ",")
		byName[name] = field
	}
	return byName
}
