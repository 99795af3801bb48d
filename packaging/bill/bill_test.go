//go:build linux

package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const (
	mit    = "Permission is hereby granted, free of charge, to any person\nobtaining a copy of this software"
	apache = "   Apache License\n Version 2.0\n…\nLicensed under the Apache License, Version 2.0 (the \"License\");"
	bsd2   = "Redistribution and use in source and binary forms, with or without modification"
	bsd3   = bsd2 + "\nNeither the name of X may be used to endorse\nor promote products"
	gpl    = "GNU GENERAL PUBLIC LICENSE\nVersion 3, 29 June 2007"
)

// write makes files below a new directory, and returns it.
func write(t *testing.T, files map[string]string) string {
	t.Helper()
	root := t.TempDir()
	for name, text := range files {
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

func TestEveryLicenceThatAppliesToALinkedPackageIsFound(t *testing.T) {
	for _, test := range []struct {
		name     string
		files    map[string]string
		packages []string // below the module
		names    []string
		licenses []string
		err      string
	}{
		{"one licence", map[string]string{"LICENSE": mit, "a.go": ""}, []string{""}, []string{"LICENSE"}, []string{"MIT"}, ""},
		{
			"two licences in one file",
			map[string]string{"COPYING": bsd3 + "\n" + mit},
			[]string{""},
			[]string{"COPYING"},
			[]string{"BSD-3-Clause", "MIT"},
			"",
		},
		{
			"a notice and a grant of patents",
			map[string]string{"LICENSE": apache, "NOTICE": "Copyright X", "PATENTS": "…", "NOTICES.go": ""},
			[]string{""},
			[]string{"LICENSE", "NOTICE", "PATENTS"},
			[]string{"Apache-2.0"},
			"",
		},
		{
			"that of a linked package, and not that of another",
			map[string]string{"LICENSE.md": mit, "in/LICENSE.txt": bsd2, "in/side/b.go": "", "out/LICENSE": gpl},
			[]string{"in/side"},
			[]string{"LICENSE.md", "in/LICENSE.txt"},
			[]string{"BSD-2-Clause", "MIT"},
			"",
		},
		{"a licence that is not known", map[string]string{"LICENSE": gpl}, []string{""}, nil, nil, "/LICENSE has a licence that is not known"},
		{"no licence", map[string]string{"NOTICE": "Copyright X"}, []string{""}, nil, nil, "has no licence"},
	} {
		t.Run(test.name, func(t *testing.T) {
			root := write(t, test.files)
			directories := []string{root}
			for _, dir := range test.packages {
				directories = append(directories, filepath.Join(root, dir))
			}
			files, err := licenseFiles(directories)
			if test.err != "" {
				if err == nil || !strings.Contains(err.Error(), test.err) {
					t.Fatalf("error %v, want %q", err, test.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			var names []string
			for _, file := range files {
				names = append(names, file.name)
			}
			if diff := cmp.Diff(test.names, names); diff != "" {
				t.Errorf("files (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(test.licenses, part{files: files}.licenses()); diff != "" {
				t.Errorf("licences (-want +got):\n%s", diff)
			}
		})
	}
}

func TestAProgramThatIsNotThatOfTheListIsRefused(t *testing.T) {
	t.Setenv("SOURCE_DATE_EPOCH", "0")
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	type listed struct {
		Dir    string
		Module map[string]any
	}
	for _, test := range []struct {
		name string
		list listed
		err  string
	}{
		{"other modules", listed{"/m", map[string]any{"Path": "example.org/m", "Version": "v1.0.0", "Dir": "/m"}}, "build it again"},
		{
			"a replaced module",
			listed{"/m", map[string]any{"Path": "example.org/m", "Replace": map[string]any{"Path": "../m"}}},
			"example.org/m is replaced by ../m",
		},
		{"a package of no module", listed{"/m", nil}, "the package in /m belongs to no module"},
	} {
		t.Run(test.name, func(t *testing.T) {
			list, err := json.Marshal(test.list)
			if err != nil {
				t.Fatal(err)
			}
			dir := t.TempDir()
			err = run([]string{"-program", program, "-sbom", dir + "/bill", "-licenses", dir + "/licenses"}, strings.NewReader(string(list)))
			if err == nil || !strings.Contains(err.Error(), test.err) {
				t.Errorf("error %v, want %q", err, test.err)
			}
			if left, _ := filepath.Glob(dir + "/*"); len(left) > 0 {
				t.Errorf("it wrote %q", left)
			}
		})
	}
}

func TestATextThatManyModulesHaveIsInTheNoticesOnce(t *testing.T) {
	first := part{module{"example.org/a", "v1.0.0"}, []licenseFile{{"LICENSE", mit, []string{"MIT"}}}}
	second := part{module{"example.org/b", "v2.0.0"}, []licenseFile{{"COPYING", mit + "\r\n", []string{"MIT"}}}}
	text := notices([]part{first, second})
	if got := strings.Count(text, "free of charge"); got != 1 {
		t.Errorf("the text is there %d times, want once", got)
	}
	for _, want := range []string{"example.org/a: LICENSE\nexample.org/b: COPYING\n", "example.org/a v1.0.0: MIT", "example.org/b v2.0.0: MIT"} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is not in:\n%s", want, text)
		}
	}
}
