//go:build linux

package command

import "github.com/listen-exporter/listen_exporter/internal/inventory"

// jsonCheck is the output of check --format=json. As in that of list, every field is always there.
type jsonCheck struct {
	Version    int                  `json:"version"`
	Complete   bool                 `json:"complete"`
	Findings   []jsonFinding        `json:"findings"`
	Registry   *jsonCheckedRegistry `json:"registry"`
	Manifests  *jsonCoverage        `json:"manifests"`
	NotChecked []jsonNotChecked     `json:"not_checked"`
	Errors     []string             `json:"errors"`
}

type jsonFinding struct {
	Rule    string `json:"rule"`
	File    string `json:"file"`
	Line    int    `json:"line"`
	Column  int    `json:"column"`
	Message string `json:"message"`
}

// jsonCheckedRegistry is a registry without a fault.
type jsonCheckedRegistry struct {
	Files          []string `json:"files"`
	Services       int      `json:"services"`
	ReservedRanges int      `json:"reserved_ranges"`
}

// jsonCoverage counts what was checked of manifests, and by its kind what was not.
type jsonCoverage struct {
	Files      int            `json:"files"`
	Workloads  int            `json:"workloads"`
	Services   int            `json:"services"`
	NotChecked map[string]int `json:"not_checked"`
}

type jsonNotChecked struct {
	File   string `json:"file"`
	Line   int    `json:"line"`
	Reason string `json:"reason"`
}

// jsonAudit is the output of audit --format=json.
type jsonAudit struct {
	Version    int                `json:"version"`
	Complete   bool               `json:"complete"`
	Host       string             `json:"host"`
	Registry   []string           `json:"registry"`
	Findings   []jsonAuditFinding `json:"findings"`
	Notes      []jsonAuditFinding `json:"notes"`
	AsDeclared int                `json:"as_declared"`
	Violations int                `json:"violations"`
	Missing    int                `json:"missing"`
	Unknown    []string           `json:"unknown"`
	Errors     []string           `json:"errors"`
}

// jsonAuditFinding is a listener that violates the registry, or a service. Address, port, device and holders are those of the
// listener, ports those of the service.
type jsonAuditFinding struct {
	Rule        string       `json:"rule"`
	Message     string       `json:"message"`
	Proto       string       `json:"proto"`
	Address     *string      `json:"address"`
	Port        *uint16      `json:"port"`
	Ports       *string      `json:"ports"`
	Device      *string      `json:"device"`
	ServiceName *string      `json:"service_name"`
	Purpose     string       `json:"purpose"`
	Owner       string       `json:"owner"`
	Declared    *string      `json:"declared"`
	Holders     []jsonHolder `json:"holders"`
}

// jsonReport returns a report for JSON.
func jsonReport(r *report, problems []string) any {
	problems = append([]string{}, problems...)
	if r.about != nil {
		a := *r.about
		a.Version, a.Complete, a.Errors = jsonVersion, len(problems) == 0, problems
		a.Findings, a.Notes, a.Unknown = auditFindings(r.findings), auditFindings(r.notes), append([]string{}, r.unknown...)
		return a
	}
	c := jsonCheck{
		Version: jsonVersion, Complete: len(problems) == 0, Errors: problems, Registry: r.registry, Manifests: r.checked,
		Findings: []jsonFinding{}, NotChecked: []jsonNotChecked{},
	}
	for _, f := range r.findings {
		c.Findings = append(c.Findings, jsonFinding{f.rule, f.file, f.line, f.column, f.message})
	}
	for _, s := range r.skipped {
		c.NotChecked = append(c.NotChecked, jsonNotChecked(s))
	}
	return c
}

func auditFindings(findings []finding) []jsonAuditFinding {
	all, names := []jsonAuditFinding{}, make(inventory.UserNames)
	for _, f := range findings {
		e := f.entry
		j := jsonAuditFinding{Rule: f.rule, Message: f.message, Proto: e.proto, Holders: []jsonHolder{}}
		if l := e.listener; l != nil {
			of, v := jsonOf(l, e.processes, names), &l.Verdict
			j.Address, j.Port, j.Device, j.Holders = &of.Address, &of.Port, &of.Device, of.Holders
			j.ServiceName, j.Purpose, j.Owner, j.Declared = known(v.Service, v.Service != ""), v.Purpose, v.Owner, known(v.Declared, v.Declared != "")
		} else {
			j.Ports, j.ServiceName, j.Purpose, j.Owner = &e.service.Ports, &e.service.Name, e.service.Purpose, e.service.Owner
		}
		all = append(all, j)
	}
	return all
}
