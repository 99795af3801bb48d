//go:build linux

package command

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf16"

	"github.com/listen-exporter/listen_exporter/internal/inventory"
	"github.com/listen-exporter/listen_exporter/internal/wording"
)

// jsonVersion is the version of the JSON's form. A new field does not change it.
const jsonVersion = 1

// jsonList is the output of list --format=json. Every field is always there: it is null if it is not known, or does not apply
// to the listener.
type jsonList struct {
	Version   int            `json:"version"`
	Host      string         `json:"host"`
	Time      time.Time      `json:"time"`
	Source    string         `json:"source"`
	Registry  *jsonRegistry  `json:"registry"`
	Listeners []jsonListener `json:"listeners"`
	Services  []jsonService  `json:"services"`
	Leases    []jsonLease    `json:"leases"`
	Omitted   int            `json:"omitted"`
	Unknown   []string       `json:"unknown"`
	Failed    []jsonFailure  `json:"failed"`
	Memory    *jsonMemory    `json:"memory"`
}

type jsonRegistry struct {
	File     string         `json:"file"`
	Reserved []jsonReserved `json:"reserved"`
}

type jsonReserved struct {
	Team      string `json:"team"`
	Ports     int    `json:"ports"`
	PortsUsed int    `json:"ports_used"`
	// These two are null if nobody may lease the ports.
	PortsLeased    *int `json:"ports_leased"`
	PortsAvailable *int `json:"ports_available"`
}

type jsonListener struct {
	Proto                   string         `json:"proto"`
	Family                  string         `json:"family"`
	Address                 string         `json:"address"`
	Port                    uint16         `json:"port"`
	Scope                   string         `json:"scope"`
	Range                   string         `json:"range"`
	Device                  string         `json:"device"`
	Netns                   string         `json:"netns"`
	Sockets                 int            `json:"sockets"`
	AcceptQueueLength       *uint64        `json:"accept_queue_length"`
	AcceptQueueLimit        *uint64        `json:"accept_queue_limit"`
	ReceiveQueueBytes       *uint64        `json:"receive_queue_bytes"`
	ReceiveBufferLimitBytes *uint64        `json:"receive_buffer_limit_bytes"`
	IPv6Only                *bool          `json:"ipv6_only"`
	Holders                 []jsonHolder   `json:"holders"`
	HoldersExact            bool           `json:"holders_exact"`
	HoldersMany             bool           `json:"holders_many"`
	State                   *string        `json:"state"`
	ServiceName             *string        `json:"service_name"`
	Purpose                 *string        `json:"purpose"`
	Owner                   *string        `json:"owner"`
	Registered              *bool          `json:"registered"`
	FirstSeen               *time.Time     `json:"first_seen"`
	ViolationStart          *time.Time     `json:"violation_start"`
	AcceptQueueFullStart    *time.Time     `json:"accept_queue_full_start"`
	DroppingStart           *time.Time     `json:"dropping_start"`
	Violation               *jsonViolation `json:"violation"`
	Lease                   *string        `json:"lease"`
}

type jsonHolder struct {
	Process     string  `json:"process"`
	Unit        string  `json:"unit"`
	ContainerID string  `json:"container_id"`
	PodUID      string  `json:"pod_uid"`
	UID         *uint32 `json:"uid"`
	User        *string `json:"user"`
	// PIDs and Executables are of exact holders.
	PIDs        []int    `json:"pids"`
	Executables []string `json:"executables"`
}

type jsonViolation struct {
	Reason      string  `json:"reason"`
	ServiceName string  `json:"service_name"`
	Declared    *string `json:"declared"`
}

type jsonService struct {
	ServiceName string `json:"service_name"`
	Purpose     string `json:"purpose"`
	Owner       string `json:"owner"`
	Proto       string `json:"proto"`
	Port        uint16 `json:"port"`
	Ports       string `json:"ports"`
	Required    string `json:"required"`
	Up          bool   `json:"up"`
	Assumed     bool   `json:"assumed"`
}

type jsonFailure struct {
	Collector string `json:"collector"`
	Error     string `json:"error"`
}

// writeJSON writes a snapshot and what is remembered as JSON.
func writeJSON(out *bytes.Buffer, o inventory.Options, s *inventory.Snapshot, unknown []string, memory *jsonMemory, now time.Time) error {
	all := jsonListOf(o, s, unknown, now, error.Error)
	all.Memory = memory
	return all.write(out, s)
}

// ServedJSON returns a function that writes a snapshot as list --format=json does, for everybody who may ask the exporter. o are the
// options with which the snapshot was made.
func ServedJSON(o inventory.Options) func(io.Writer, *inventory.Snapshot) error {
	return func(w io.Writer, s *inventory.Snapshot) error {
		return jsonListOf(o, s, unknown(o, s, details), s.Time, wording.Public).write(w, s)
	}
}

// jsonListOf returns the JSON of a snapshot without its listeners. errorText returns what an error says.
func jsonListOf(o inventory.Options, s *inventory.Snapshot, unknown []string, now time.Time, errorText func(error) string) *jsonList {
	all := &jsonList{
		Version: jsonVersion, Host: o.RegistryHost, Time: now.UTC().Truncate(time.Second), Source: s.Source, Omitted: s.Omitted, Unknown: unknown,
		Listeners: []jsonListener{}, Services: []jsonService{}, Failed: []jsonFailure{},
	}
	if s.Compliance != nil {
		all.Registry = &jsonRegistry{File: strings.Join(o.RegistryFiles, ", ")}
		if s.Succeeded(inventory.TCP) && s.Succeeded(inventory.UDP) {
			all.Registry.Reserved = []jsonReserved{}
			for _, use := range s.Compliance.Reserved {
				all.Registry.Reserved = append(all.Registry.Reserved, jsonReservedOf(s, use))
			}
		}
		for _, state := range s.Compliance.Services {
			all.Services = append(all.Services, jsonService{
				state.Name, state.Purpose, state.Owner, state.Proto, state.Port, state.Ports, state.Required(), state.Up, state.Assumed,
			})
		}
	}
	all.Leases = jsonLeases(s)
	for _, read := range s.Reads {
		if read.Err != nil {
			all.Failed = append(all.Failed, jsonFailure{read.Collector, errorText(read.Err)})
		}
	}
	return all
}

// write writes the list with the listeners of the snapshot. It makes them one after the other: all at once would take more memory
// than the rest of the exporter.
func (j *jsonList) write(w io.Writer, s *inventory.Snapshot) error {
	var text bytes.Buffer
	if err := writeIndented(&text, j); err != nil {
		return err
	}
	const list = "\n  \"listeners\": ["
	before, after, _ := bytes.Cut(text.Bytes(), []byte(list)) // a text within it has no line break
	if _, err := fmt.Fprintf(w, "%s%s", before, list); err != nil {
		return err
	}
	names, end := make(inventory.UserNames), ""
	var element bytes.Buffer
	for i := range s.Listeners {
		l := &s.Listeners[i]
		element.Reset()
		if err := writeIndented(&element, []jsonListener{jsonOf(l, s.Processes[l.Key], names)}); err != nil {
			return err
		}
		// Its lines, as those of a list within an object.
		lines := bytes.ReplaceAll(bytes.TrimSuffix(element.Bytes()[len("["):], []byte("\n]\n")), []byte("\n"), []byte("\n  "))
		if i > 0 {
			lines = append([]byte(","), lines...)
		}
		if _, err := w.Write(lines); err != nil {
			return err
		}
		end = "\n  "
	}
	_, err := fmt.Fprintf(w, "%s%s", end, after)
	return err
}

// writeIndented writes a value as JSON for people too.
func writeIndented(out *bytes.Buffer, value any) error {
	var text bytes.Buffer
	encoder := json.NewEncoder(&text)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", "  ")
	if err := encoder.Encode(value); err != nil {
		return fmt.Errorf("write JSON: %w", err)
	}
	writePrintable(out, text.String())
	return nil
}

func jsonOf(l *inventory.Listener, processes []inventory.Process, names inventory.UserNames) jsonListener {
	tcp, state, verdict, starts := l.Proto == inventory.TCP, l.State(), &l.Verdict, startsOf(l)
	j := jsonListener{
		Proto: l.Proto, Family: l.Family(), Address: l.Addr.Addr().String(), Port: l.Addr.Port(), Scope: string(l.Scope), Range: string(l.Range),
		Device: l.Device, Netns: l.Netns, Sockets: l.Sockets,
		AcceptQueueLength:       known(l.AcceptQueueLength, tcp),
		AcceptQueueLimit:        known(l.AcceptQueueLimit, tcp && l.Detailed),
		ReceiveQueueBytes:       known(l.ReceiveQueueBytes, !tcp),
		ReceiveBufferLimitBytes: known(l.ReceiveBufferLimitBytes, !tcp && l.Detailed),
		IPv6Only:                known(l.IPv6Only, l.Detailed && l.IsIPv6()),
		Holders:                 []jsonHolder{}, HoldersExact: l.Exact, HoldersMany: l.ManyHolders,
		State:       known(state, state != ""),
		ServiceName: known(verdict.Service, l.Declared()),
		Purpose:     known(verdict.Purpose, l.Declared()),
		Owner:       known(verdict.Owner, l.Declared()),
		Registered:  known(verdict.Reason == "", l.Judged),
		FirstSeen:   moment(l.FirstSeen), ViolationStart: moment(starts.Violation),
		AcceptQueueFullStart: moment(starts.Full), DroppingStart: moment(starts.Dropping),
	}
	for _, h := range l.Holders {
		j.Holders = append(j.Holders, jsonHolderOf(h, processes, names))
	}
	if l.Lease != nil {
		j.Lease = &l.Lease.ID
	}
	if verdict.Reason != "" {
		j.Violation = &jsonViolation{verdict.Reason, verdict.Service, known(verdict.Declared, verdict.Declared != "")}
	}
	return j
}

func jsonHolderOf(h inventory.Holder, processes []inventory.Process, names inventory.UserNames) jsonHolder {
	user := names.Of(h)
	j := jsonHolder{
		Process: h.Process, Unit: h.Unit, ContainerID: h.ContainerID, PodUID: h.PodUID, UID: known(h.UID, !h.UIDUnknown), User: known(user, user != ""),
		PIDs: []int{}, Executables: []string{},
	}
	for _, p := range processes {
		if !p.Called(h) {
			continue
		}
		j.PIDs = append(j.PIDs, p.PID)
		if p.Path != "" && !slices.Contains(j.Executables, p.Path) {
			j.Executables = append(j.Executables, p.Path)
		}
	}
	return j
}

// known returns the value of a field that is null unless it is known and applies.
func known[T any](value T, isKnown bool) *T {
	if !isKnown {
		return nil
	}
	return &value
}

// writePrintable writes JSON with each unprintable character escaped, so that no name can control a terminal. Escaping does not
// change the values.
func writePrintable(out *bytes.Buffer, text string) {
	for _, r := range text {
		if r == '\n' || strconv.IsPrint(r) {
			out.WriteRune(r)
			continue
		}
		for _, unit := range utf16.AppendRune(nil, r) {
			fmt.Fprintf(out, `\u%04x`, unit)
		}
	}
}
