// Command kubernetes-check tells of manifests what no kubectl tells:
//
//	kubernetes-check decode FILE...
//	kubernetes-check types --server URL --token TOKEN FILE...
//
// decode reads the PodMonitors and PrometheusRules of files into the Prometheus Operator's own Go types. A field that these do
// not have is an error, and so is a file without either.
//
// types checks the CEL expressions of ValidatingAdmissionPolicies against the schemas of a running API server, as the
// controller does that fills in their status.typeChecking: a warning of it is an error here.
package main

import (
	"bufio"
	"bytes"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"

	monitoring "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
	admission "k8s.io/api/admissionregistration/v1"
	"k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/apiserver/pkg/admission/plugin/policy/validating"
	"k8s.io/apiserver/pkg/cel/openapi/resolver"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/discovery/cached/memory"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/restmapper"
	strictyaml "sigs.k8s.io/yaml"
)

func main() {
	if err := run(os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "kubernetes-check:", err)
		os.Exit(1)
	}
}

func run(args []string, stdout io.Writer) error {
	if len(args) == 0 {
		return errors.New("want decode or types")
	}
	flags := flag.NewFlagSet(args[0], flag.ContinueOnError)
	server := flags.String("server", "", "URL of the API server")
	token := flags.String("token", "", "bearer token for it")
	if err := flags.Parse(args[1:]); err != nil {
		return err
	}
	check := decode
	switch args[0] {
	case "decode":
	case "types":
		checker, err := typeChecker(*server, *token)
		if err != nil {
			return err
		}
		check = checker
	default:
		return fmt.Errorf("unknown: %s", args[0])
	}
	for _, file := range flags.Args() {
		if err := eachDocument(file, stdout, check); err != nil {
			return fmt.Errorf("%s: %w", file, err)
		}
	}
	return nil
}

// eachDocument has check look at each document of a file. It returns what that object is, or nothing for one that it knows
// nothing of.
func eachDocument(file string, stdout io.Writer, check func(kind string, document []byte) (string, error)) error {
	content, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	known := 0
	for documents := yaml.NewYAMLReader(bufio.NewReader(bytes.NewReader(content))); ; {
		document, err := documents.Read()
		if errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return err
		}
		var head struct {
			APIVersion string `json:"apiVersion"`
			Kind       string `json:"kind"`
		}
		if err := strictyaml.Unmarshal(document, &head); err != nil {
			return err
		}
		what, err := check(head.APIVersion+" "+head.Kind, document)
		if err != nil {
			return fmt.Errorf("%s: %w", head.Kind, err)
		}
		if what != "" {
			known++
			if _, err := fmt.Fprintf(stdout, "%s: %s\n", file, what); err != nil {
				return err
			}
		}
	}
	if known == 0 {
		return errors.New("holds nothing to be checked")
	}
	return nil
}

func decode(kind string, document []byte) (string, error) {
	switch kind {
	case "monitoring.coreos.com/v1 PodMonitor":
		var m monitoring.PodMonitor
		if err := strictyaml.UnmarshalStrict(document, &m); err != nil {
			return "", err
		}
		return fmt.Sprintf("PodMonitor %s with %d endpoints", m.Name, len(m.Spec.PodMetricsEndpoints)), nil
	case "monitoring.coreos.com/v1 PrometheusRule":
		var r monitoring.PrometheusRule
		if err := strictyaml.UnmarshalStrict(document, &r); err != nil {
			return "", err
		}
		rules := 0
		for i := range r.Spec.Groups {
			rules += len(r.Spec.Groups[i].Rules)
		}
		return fmt.Sprintf("PrometheusRule %s with %d rules", r.Name, rules), nil
	}
	return "", nil
}

// typeChecker returns a check of policies by the schemas of a server.
func typeChecker(server, token string) (func(kind string, document []byte) (string, error), error) {
	client, err := discovery.NewDiscoveryClientForConfig(&rest.Config{
		Host: server, BearerToken: token, TLSClientConfig: rest.TLSClientConfig{Insecure: true}, // its certificate is its own
	})
	if err != nil {
		return nil, err
	}
	checker := validating.TypeChecker{
		SchemaResolver: &resolver.ClientDiscoveryResolver{Discovery: client},
		RestMapper:     restmapper.NewDeferredDiscoveryRESTMapper(memory.NewMemCacheClient(client)),
	}
	return func(kind string, document []byte) (string, error) {
		if kind != "admissionregistration.k8s.io/v1 ValidatingAdmissionPolicy" {
			return "", nil
		}
		var policy admission.ValidatingAdmissionPolicy
		if err := strictyaml.UnmarshalStrict(document, &policy); err != nil {
			return "", err
		}
		for _, warning := range checker.Check(&policy) {
			return "", fmt.Errorf("%s: %s", warning.FieldRef, warning.Warning)
		}
		return "ValidatingAdmissionPolicy " + policy.Name + ": no type warnings", nil
	}, nil
}
