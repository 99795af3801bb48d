//go:build linux

package main

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// licenseFile is a file that has to go with a copy of its module.
type licenseFile struct {
	name string // within the module
	text string
	ids  []string // the licences in it, by their SPDX identifiers; none in a NOTICE or a grant of patents
}

var (
	licenseName = regexp.MustCompile(`(?i)^(licen[cs]e|copying)([.-].*)?$`)
	noticeName  = regexp.MustCompile(`(?i)^(notice|patents)(\.(md|txt))?$`)
)

// licenseFiles reads the licences of the packages in these directories. The first directory is that of the module, and the
// others are below it. A package has the licences of all directories that it is in: parts of some modules come from elsewhere.
func licenseFiles(directories []string) ([]licenseFile, error) {
	root := directories[0]
	var above []string
	for _, dir := range directories {
		for ; len(dir) > len(root); dir = filepath.Dir(dir) {
			above = append(above, dir)
		}
	}
	slices.Sort(above)

	var files []licenseFile
	for _, dir := range slices.Compact(append([]string{root}, above...)) {
		entries, err := os.ReadDir(dir)
		if err != nil {
			return nil, err
		}
		for _, entry := range entries {
			isLicense := licenseName.MatchString(entry.Name())
			if !isLicense && !noticeName.MatchString(entry.Name()) || !entry.Type().IsRegular() {
				continue
			}
			path := filepath.Join(dir, entry.Name())
			text, err := os.ReadFile(path)
			if err != nil {
				return nil, err
			}
			file := licenseFile{name: strings.TrimPrefix(path, root+"/"), text: string(text)}
			if isLicense {
				if file.ids = identify(file.text); len(file.ids) == 0 {
					return nil, fmt.Errorf("%s has a licence that is not known: read it, and add it to packaging/bill/license.go", path)
				}
			}
			files = append(files, file)
		}
	}
	if !slices.ContainsFunc(files, func(f licenseFile) bool { return f.ids != nil }) {
		return nil, fmt.Errorf("%s has no licence", root)
	}
	return files, nil
}

// known are the licences that may be linked, by a sentence that no other one has. All permit a program under the Apache License
// 2.0, and all want their text to be with every copy.
var known = []struct{ id, has, hasNot string }{
	{id: "Apache-2.0", has: "apache license, version 2.0"},
	{id: "BSD-2-Clause", has: "redistribution and use in source and binary forms", hasNot: "to endorse or promote products"},
	{id: "BSD-3-Clause", has: "to endorse or promote products"},
	{id: "ISC", has: "permission to use, copy, modify, and/or distribute this software for any purpose"},
	{id: "MIT", has: "permission is hereby granted, free of charge, to any person obtaining a copy"},
}

func identify(text string) []string {
	text = strings.ToLower(strings.Join(strings.Fields(text), " "))
	var ids []string
	for _, license := range known {
		if strings.Contains(text, license.has) && (license.hasNot == "" || !strings.Contains(text, license.hasNot)) {
			ids = append(ids, license.id)
		}
	}
	return ids
}

// licenses returns the licences of a part, sorted.
func (p part) licenses() []string {
	var ids []string
	for _, file := range p.files {
		ids = append(ids, file.ids...)
	}
	slices.Sort(ids)
	return slices.Compact(ids)
}

// notices returns the texts of all files, each one once: many modules have the same.
func notices(parts []part) string {
	var out strings.Builder
	out.WriteString("listen_exporter contains the Go modules below. These are their licences.\n\n")
	owners := make(map[string][]string) // by text
	var texts []string
	for _, p := range parts {
		fmt.Fprintf(&out, "  %s %s: %s\n", p.path, p.version, strings.Join(p.licenses(), ", "))
		for _, file := range p.files {
			text := strings.TrimSpace(strings.ReplaceAll(file.text, "\r\n", "\n"))
			if owners[text] == nil {
				texts = append(texts, text)
			}
			owners[text] = append(owners[text], p.path+": "+file.name)
		}
	}
	for _, text := range texts {
		fmt.Fprintf(&out, "\n%s\n%s\n\n%s\n", strings.Repeat("-", 80), strings.Join(owners[text], "\n"), text)
	}
	return out.String()
}
