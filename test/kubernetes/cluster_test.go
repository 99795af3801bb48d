// Package kubernetes gives everything in examples/kubernetes, and the Helm chart, to a real API server.
//
// It needs no root. kube-apiserver and its etcd listen on free ports of 127.0.0.1 and end with the test. There is no kubelet
// and no controller, so nothing runs: what is created is only an object. make test-kubernetes builds the programs, at the
// versions in the go.mod of this module.
package kubernetes

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

const (
	root = "../.."
	// tools is where .ci/tools kubernetes puts the programs.
	tools    = root + "/.tools/kubernetes"
	examples = root + "/examples/kubernetes"
	// patience is how long the API server may take for what it does in a second or two on an idle machine.
	patience = 2 * time.Minute
)

// cluster is a running API server.
type cluster struct{ dir, server, token string }

// start starts an API server, which ends with the test.
func start(t *testing.T) *cluster {
	t.Helper()
	c := &cluster{dir: t.TempDir(), token: rand.Text()}
	client, peer, port := freePort(t), freePort(t), freePort(t)
	c.server = "https://127.0.0.1:" + port
	file := func(name string) string { return filepath.Join(c.dir, name) }
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	keyText := pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key)})
	if err := errors.Join(
		os.WriteFile(file("service-accounts.key"), keyText, 0o600),
		os.WriteFile(file("tokens.csv"), []byte(c.token+",test,test,system:masters\n"), 0o600),
	); err != nil {
		t.Fatal(err)
	}
	startProgram(t, file("etcd.log"), "etcd", "--data-dir", file("etcd"), "--unsafe-no-fsync", "--log-level", "error",
		"--listen-client-urls", "http://127.0.0.1:"+client, "--advertise-client-urls", "http://127.0.0.1:"+client,
		"--listen-peer-urls", "http://127.0.0.1:"+peer, "--initial-advertise-peer-urls", "http://127.0.0.1:"+peer,
		"--initial-cluster", "default=http://127.0.0.1:"+peer)
	// ServiceAccount would refuse every pod: the controller that makes the accounts is not there.
	startProgram(t, file("apiserver.log"), "kube-apiserver", "--bind-address", "127.0.0.1", "--secure-port", port,
		"--cert-dir", file("certificates"), "--etcd-servers", "http://127.0.0.1:"+client, "--endpoint-reconciler-type", "none",
		"--service-cluster-ip-range", "10.96.0.0/16", "--authorization-mode", "RBAC", "--token-auth-file", file("tokens.csv"),
		"--disable-admission-plugins", "ServiceAccount", "--service-account-issuer", c.server,
		"--service-account-key-file", file("service-accounts.key"),
		"--service-account-signing-key-file", file("service-accounts.key"))
	if err := await(func() error {
		_, err := c.kubectl("", "get", "--raw", "/readyz")
		return err
	}); err != nil {
		log, _ := os.ReadFile(file("apiserver.log"))
		t.Fatalf("the API server is not ready: %v\n%s", err, log[max(0, len(log)-4000):])
	}
	return c
}

func freePort(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = listener.Close() }()
	_, port, err := net.SplitHostPort(listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	return port
}

func startProgram(t *testing.T, log, name string, arguments ...string) {
	t.Helper()
	output, err := os.Create(log)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = output.Close() }()
	cmd := exec.Command(filepath.Join(tools, name), arguments...)
	cmd.Stdout, cmd.Stderr = output, output
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatalf("%v: make test-kubernetes builds it", err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
}

// await calls done again and again until it returns nil. It returns done's last error when it is too late.
func await(done func() error) error {
	for deadline := time.Now().Add(patience); ; time.Sleep(200 * time.Millisecond) {
		if err := done(); err == nil || time.Now().After(deadline) {
			return err
		}
	}
}

// kubectl runs a command and returns all that it prints. An error has that too.
func (c *cluster) kubectl(stdin string, arguments ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, filepath.Join(tools, "kubectl"),
		append([]string{"--server", c.server, "--token", c.token, "--insecure-skip-tls-verify"}, arguments...)...)
	cmd.Env = append(os.Environ(), "HOME="+c.dir, "KUBECONFIG=/dev/null")
	cmd.Stdin = strings.NewReader(stdin)
	var output bytes.Buffer
	cmd.Stdout, cmd.Stderr = &output, &output
	if err := cmd.Run(); err != nil {
		return output.String(), fmt.Errorf("kubectl %s: %w\n%s%s", strings.Join(arguments, " "), err, output.String(), stdin)
	}
	return output.String(), nil
}

// must prepares what later checks need.
func (c *cluster) must(t *testing.T, stdin string, arguments ...string) string {
	t.Helper()
	output, err := c.kubectl(stdin, arguments...)
	if err != nil {
		t.Fatal(err)
	}
	return output
}

// check is one request and its outcome.
type check struct {
	name string
	// object is created, for real, with args as further arguments. Without one, args is a command of kubectl.
	object string
	args   []string
	// denied is a part of the message with which the request must be refused. If it is empty, the request must succeed.
	denied string
}

// admit creates an object that must be admitted, and deny one that must not be. arguments are more for kubectl create.
func admit(name, object string, arguments ...string) check {
	return check{name: name, object: object, args: arguments}
}

func deny(name, message, object string, arguments ...string) check {
	return check{name: name, denied: message, object: object, args: arguments}
}

// allow runs a command of kubectl that must succeed, and refuse one that must not.
func allow(name string, arguments ...string) check { return check{name: name, args: arguments} }

func refuse(name, message string, arguments ...string) check {
	return check{name: name, denied: message, args: arguments}
}

func (c *cluster) run(t *testing.T, checks ...check) {
	t.Helper()
	for _, check := range checks {
		t.Run(check.name, func(t *testing.T) {
			arguments := check.args
			if check.object != "" {
				arguments = append([]string{"create", "--filename", "-"}, check.args...)
			}
			output, err := c.kubectl(check.object, arguments...)
			switch {
			case check.denied == "" && err != nil:
				t.Error(err)
			case check.denied != "" && err == nil:
				t.Errorf("it was admitted:\n%s", output)
			case !strings.Contains(output, check.denied):
				t.Errorf("the message does not contain %q:\n%s", check.denied, output)
			}
		})
	}
}

// Objects, with as few fields as they can have. spec is YAML without the outer braces.

// namespace creates a namespace with annotations, such as "a: b, c: d".
func (c *cluster) namespace(t *testing.T, name, annotations string) {
	t.Helper()
	c.must(t, fmt.Sprintf("{apiVersion: v1, kind: Namespace, metadata: {name: %s, annotations: {%s}}}", name, annotations),
		"create", "--filename", "-")
}

func service(namespace, name, spec string) string {
	return fmt.Sprintf("{apiVersion: v1, kind: Service, metadata: {namespace: %s, name: %s}, spec: {selector: {app: x}, %s}}",
		namespace, name, spec)
}

func nodePort(namespace, name string, port int) string {
	return service(namespace, name, fmt.Sprintf("type: NodePort, ports: [{port: 80, nodePort: %d}]", port))
}

func pod(namespace, name, spec string) string { return workload("Pod", namespace, name, spec) }

// containers is a pod's list of them.
func containers(list ...string) string { return "containers: [" + strings.Join(list, ", ") + "]" }

// first are the lists of a pod with the init container first and the container web.
func first(ports ...string) string {
	return "initContainers: [" + container("first", ports...) + "], " + web()
}

// web is a list with only the container web.
func web(ports ...string) string { return containers(container("web", ports...)) }

// container is one container; each port is a mapping without its braces.
func container(name string, ports ...string) string {
	for i, port := range ports {
		ports[i] = "{" + port + "}"
	}
	return fmt.Sprintf("{name: %s, image: x, ports: [%s]}", name, strings.Join(ports, ", "))
}

// kinds are all that have pods or make them.
var kinds = []string{"Pod", "ReplicationController", "Deployment", "DaemonSet", "ReplicaSet", "StatefulSet", "Job", "CronJob"}

// workload is an object of a kind with the spec of a pod.
func workload(kind, namespace, name, spec string) string {
	const template = "template: {metadata: {labels: {app: x}}, spec: {%s}}"
	version, format := "apps/v1", "selector: {matchLabels: {app: x}}, "+template
	switch kind {
	case "Pod":
		version, format = "v1", "%s"
	case "ReplicationController":
		version, format = "v1", "selector: {app: x}, "+template
	case "StatefulSet":
		format = "serviceName: x, " + format
	case "Job", "CronJob":
		version, format, spec = "batch/v1", template, "restartPolicy: Never, "+spec
	}
	if kind == "CronJob" {
		format = "schedule: '0 0 * * *', jobTemplate: {spec: {" + template + "}}"
	}
	return fmt.Sprintf("{apiVersion: %s, kind: %s, metadata: {namespace: %s, name: %s}, spec: {%s}}",
		version, kind, namespace, name, fmt.Sprintf(format, spec))
}

// owned is the object with an owner, as a controller makes it. owner is a version and a kind.
func owned(owner, name, object string, isController bool) string {
	version, kind, _ := strings.Cut(owner, " ")
	return strings.Replace(object, "metadata: {", fmt.Sprintf(
		"metadata: {ownerReferences: [{apiVersion: %s, kind: %s, name: %s, uid: %s, controller: %t}], ",
		version, kind, name, name, isController), 1)
}

// asController are the arguments that make kubectl a controller of Kubernetes, with only its rights. The API server adds the
// groups of a service account.
func asController(name string) string { return "--as=system:serviceaccount:kube-system:" + name }

// patch returns the arguments that patch an object, by a JSON patch if it is a list.
func patch(namespace, object, text string) []string {
	kind := "merge"
	if strings.HasPrefix(text, "[") {
		kind = "json"
	}
	return []string{"patch", object, "--namespace", namespace, "--type", kind, "--patch", text}
}

// podPatch is a JSON patch of the first container of a pod's template.
func podPatch(op, path, value string) string {
	return fmt.Sprintf(`[{"op": %q, "path": "/spec/template/spec/containers/0/%s", "value": %s}]`, op, path, value)
}
