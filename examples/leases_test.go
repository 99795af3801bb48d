//go:build linux

package examples

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v3"
	"golang.org/x/sys/unix"

	"github.com/listen-exporter/listen_exporter/test/netnstest"
	"github.com/listen-exporter/listen_exporter/test/program"
	"github.com/listen-exporter/listen_exporter/test/tools"
)

// leaseUsers are the users of the examples, which this machine does not have.
var leaseUsers = map[string]uint32{"github-runner": 2001, "gitlab-runner": 2002, "deploy": 2003, "app": 2004}

func TestTheExamplesOfLeasesRunWithAnExporter(t *testing.T) {
	for _, name := range []string{"bash", "jq", "perl"} {
		if _, err := exec.LookPath(name); err != nil {
			t.Skip("needs ", name)
		}
	}
	netnstest.RunAsHost(t, func(t *testing.T) {
		becomeLeasingHost(t)
		for _, result := range []string{"0", "1"} {
			for name, ports := range map[string]int{"one-command": 1, "several-steps": 2} {
				t.Run("GitHub, "+name+", "+result, func(t *testing.T) {
					runs(t, job{"github-runner", name, ports, gitHubSteps(t, name), []string{"RESULT=" + result, "GITHUB_JOB=" + name}}, result == "0")
				})
			}
			for name, ports := range map[string]int{"test": 1, "test-two": 2} {
				t.Run("GitLab, "+name+", "+result, func(t *testing.T) {
					runs(t, job{"gitlab-runner", name, ports, gitLabSteps(t, name), []string{"RESULT=" + result, "CI_JOB_NAME_SLUG=" + name}}, result == "0")
				})
			}
		}
		t.Run("Compose", func(t *testing.T) {
			command := regexp.MustCompile(`(?m)^#   (listen_exporter lease .*)$`).FindStringSubmatch(tools.Read(t, "leases/docker-compose.yml"))
			if command == nil || !strings.Contains(tools.Read(t, "leases/README.md"), "\n"+command[1]+"\n") {
				t.Fatalf("docker-compose.yml has the command %q, and README.md another one", command)
			}
			composes(t, command[1])
		})
		t.Run("Compose, detached", func(t *testing.T) {
			commands := regexp.MustCompile("```sh\n([^`]* --detach\n[^`]*)```").FindStringSubmatch(tools.Read(t, "leases/README.md"))
			if commands == nil {
				t.Fatal("README.md has no such commands")
			}
			composes(t, commands[1])
		})
	})
}

// becomeLeasingHost gives the test a host of its own, with the users of the examples and the programs that they run.
func becomeLeasingHost(t *testing.T) {
	t.Helper()
	text := tools.Read(t, program.Path(t))
	if err := unix.Mount("tmpfs", "/run", "tmpfs", 0, "mode=755"); err != nil {
		t.Fatal(err)
	}
	users := tools.Read(t, "/etc/passwd")
	for name, uid := range leaseUsers {
		users += fmt.Sprintf("%s:x:%d:%[2]d::/:/bin/false\n", name, uid)
	}
	write(t, "/run/passwd", users)
	if err := unix.Mount("/run/passwd", "/etc/passwd", "", unix.MS_BIND, ""); err != nil {
		t.Fatal(err)
	}
	writeScript(t, "/run/bin/listen_exporter", text)
	writeScript(t, "/run/bin/docker", docker)
}

// writeScript writes a file that everybody may run.
func writeScript(t *testing.T, file, text string) {
	t.Helper()
	write(t, file, text)
	if err := os.Chmod(file, 0o755); err != nil {
		t.Fatal(err)
	}
}

// startLeasing starts an exporter that leases the ranges of the examples.
func startLeasing(t *testing.T) *program.Exporter {
	t.Helper()
	return program.Launch(t, exec.Command("/run/bin/listen_exporter", "--web.listen-address=127.0.0.1:0", "--collector.interval=200ms",
		"--registry.file=leases/ports.yml", "--lease.enable", "--lease.file=/run/leases.db")).Listen()
}

// leased returns the ports that a user has leased by a name, and those of them on which all is as declared.
func leased(t *testing.T, e *program.Exporter, user, name string) (ports, asDeclared []string) {
	t.Helper()
	page := program.Samples(t, e.Scrape())
	for series := range page {
		if strings.HasPrefix(series, "host_listen_lease_info{") && program.Label(series, "service_name") == name && program.Label(series, "uid") == fmt.Sprint(leaseUsers[user]) {
			ports = append(ports, program.Label(series, "port"))
		}
	}
	for series, value := range page {
		if strings.HasPrefix(series, "host_listen_port_registered{") && slices.Contains(ports, program.Label(series, "port")) && value == "1" {
			asDeclared = append(asDeclared, program.Label(series, "port"))
		}
	}
	slices.Sort(ports)
	slices.Sort(asDeclared)
	return ports, slices.Compact(asDeclared)
}

// job is one of a runner. Its programs are jobPrograms.
type job struct {
	user, name string
	ports      int
	steps      []step
	env        []string
}

// jobPrograms are what the examples have at EDIT. test.sh ends when the exporter has been looked at.
var jobPrograms = map[string]string{
	"start.sh": `for port; do
  nohup perl -MIO::Socket::INET -e 'my $s = IO::Socket::INET->new(LocalAddr => "127.0.0.1:$ARGV[0]", Listen => 8) or die "$!"; sleep' "$port" >perl.log 2>&1 &
  echo $! >>pids
done`,
	"test.sh": `if [ -n "${PORT:-}" ]; then trap ./stop.sh EXIT; ./start.sh "$PORT"; fi
until [ -e seen ]; do sleep 0.1; done
exit "$RESULT"`,
	"stop.sh": `kill $(cat pids)`,
}

// runs runs a job, and looks at its leases before and after its end.
func runs(t *testing.T, j job, want bool) {
	t.Helper()
	e, dir := startLeasing(t), workspace(t, j.user)
	for name, text := range jobPrograms {
		writeScript(t, filepath.Join(dir, name), "#!/bin/bash\n"+text+"\n")
	}
	var passed bool
	var log string
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		passed, log = j.run(dir)
	}()
	e.Await("leases of "+j.name+" with listeners that are as declared", func() bool {
		_, asDeclared := leased(t, e, j.user, j.name)
		return isClosed(ended) || len(asDeclared) == j.ports
	})
	if isClosed(ended) {
		t.Fatalf("the job ended before:\n%s", log)
	}
	write(t, filepath.Join(dir, "seen"), "")
	e.Await("the end of the job", func() bool { return isClosed(ended) })
	if passed != want {
		t.Errorf("the job passed: %v, want %v\n%s", passed, want, log)
	}
	if ports, _ := leased(t, e, j.user, j.name); len(ports) > 0 {
		t.Errorf("%s are still leased\n%s", ports, log)
	}
}

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// run runs the steps of a job, as runners do.
func (j *job) run(dir string) (passed bool, log string) {
	passed = true
	succeeded := make(map[string]bool)
	for _, s := range j.steps {
		condition := ifForm.FindStringSubmatch(s.If)
		if s.If == "" && !passed || condition != nil && condition[1] != "" && !succeeded[condition[1]] {
			continue
		}
		exported, _ := os.ReadFile(filepath.Join(dir, "github-env"))
		cmd := as(j.user, dir, s.Run, append(strings.Fields(string(exported)), j.env...)...)
		output, err := cmd.CombinedOutput()
		log += fmt.Sprintf("%s: %v\n%s", s.Run, err, output)
		passed, succeeded[s.ID] = passed && err == nil, err == nil
	}
	return passed, log
}

// ifForm is a condition by which a step runs although another one has failed.
var ifForm = regexp.MustCompile(`^\$\{\{ always\(\)(?: && steps\.(\w+)\.outcome == 'success')? \}\}$`)

// as returns a command by which a user runs a script in a directory.
func as(user, dir, script string, env ...string) *exec.Cmd {
	cmd := exec.Command("bash", "-e", "-c", script)
	cmd.Dir = dir
	cmd.Env = append(slices.Clip(env), "PATH=/run/bin:"+os.Getenv("PATH"), "RUNNER_TEMP="+dir, "GITHUB_ENV="+dir+"/github-env")
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: leaseUsers[user], Gid: leaseUsers[user]}}
	return cmd
}

// workspace returns a directory of a user's own.
func workspace(t *testing.T, user string) string {
	t.Helper()
	dir, err := os.MkdirTemp("/run", "work-")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(dir, int(leaseUsers[user]), int(leaseUsers[user])); err != nil {
		t.Fatal(err)
	}
	return dir
}

// gitHubSteps returns the steps of a job that run something.
func gitHubSteps(t *testing.T, name string) (steps []step) {
	t.Helper()
	for _, s := range readWorkflow(t, "leases/github-actions.yml").Jobs[name].Steps {
		if s.Run != "" {
			steps = append(steps, s)
		}
		if s.If != "" && !ifForm.MatchString(s.If) {
			t.Errorf("if: %s is none that the test knows", s.If)
		}
	}
	return steps
}

// gitLabSteps returns what a shell executor runs: one script, and one afterwards.
func gitLabSteps(t *testing.T, name string) []step {
	t.Helper()
	type gitLabJob struct {
		Stage, Timeout string
		Tags, Script   []string
		AfterScript    []string `yaml:"after_script"`
	}
	var file struct {
		Stages  []string
		Test    gitLabJob
		TestTwo gitLabJob `yaml:"test-two"`
	}
	strict := yaml.NewDecoder(strings.NewReader(tools.Read(t, "leases/gitlab/.gitlab-ci.yml")))
	strict.KnownFields(true)
	if err := strict.Decode(&file); err != nil {
		t.Fatal(err)
	}
	j := map[string]gitLabJob{"test": file.Test, "test-two": file.TestTwo}[name]
	if len(j.Script) == 0 || !slices.Contains(file.Stages, j.Stage) {
		t.Fatalf("the job %s is %+v", name, j)
	}
	return []step{
		{Run: "set -eo pipefail\n" + strings.Join(j.Script, "\n")},
		{Run: strings.Join(j.AfterScript, "\n"), If: "${{ always() }}"},
	}
}

// docker does what the examples need of it: it asks the daemon, which is the test, to open the published ports.
const docker = `#!/bin/bash
set -eu
published() { sed -n 's/^ *- "\(.*\):[0-9]*"$/\1/p' docker-compose.yml | while read -r port; do eval "echo \"$port\""; done; }
case "$*" in
"compose up") published >wanted.new; mv wanted.new wanted; until [ -e seen ]; do sleep 0.1; done ;;
"compose up --detach") published >wanted.new; mv wanted.new wanted ;;
"compose down") published >/dev/null; until [ -e seen ]; do sleep 0.1; done ;;
*) echo "docker $* is none that the test knows" >&2; exit 1 ;;
esac
`

// composes runs commands with the ports of docker-compose.yml. The listeners are of root, as those of docker-proxy.
func composes(t *testing.T, commands string) {
	t.Helper()
	e, dir := startLeasing(t), workspace(t, "deploy")
	write(t, filepath.Join(dir, "docker-compose.yml"), tools.Read(t, "leases/docker-compose.yml"))
	cmd := as("deploy", dir, commands)
	output := new(program.Output)
	cmd.Stdout, cmd.Stderr = output, output
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	var err error
	go func() {
		defer close(ended)
		err = cmd.Wait()
	}()
	var published []string
	e.Await("the published ports", func() bool {
		text, _ := os.ReadFile(filepath.Join(dir, "wanted"))
		published = strings.Fields(string(text))
		return isClosed(ended) || len(published) > 0
	})
	if len(published) != 2 {
		t.Fatalf("compose publishes %q, want two ports: %v\n%s", published, err, output)
	}
	for _, address := range published {
		if !strings.Contains(address, ":") {
			address = "0.0.0.0:" + address
		}
		listen(t, "tcp4", address)
	}
	e.Await("two ports of root that are as declared", func() bool {
		_, asDeclared := leased(t, e, "deploy", "shop-preview")
		return len(asDeclared) == 2
	})
	write(t, filepath.Join(dir, "seen"), "")
	e.Await("the end of the commands", func() bool { return isClosed(ended) })
	if ports, _ := leased(t, e, "deploy", "shop-preview"); err != nil || len(ports) > 0 {
		t.Errorf("%v, and %s are still leased\n%s", err, ports, output)
	}
}

func TestTheRangesOfTheExamplesOfLeases(t *testing.T) {
	code, stdout, stderr := program.Run(t, "check", "leases/ports.yml")
	if code != 0 || stderr != "" {
		t.Errorf("check: code %d\n%s%s", code, stdout, stderr)
	}
	var file struct {
		Reserved []struct {
			Team, Ports string
			Users       []string
			AnyUser     bool `yaml:"any_user"`
		}
	}
	tools.Decode(t, "leases/ports.yml", &file)
	users := make(map[string][]string)
	for _, r := range file.Reserved {
		users[r.Team] = r.Users
		if r.AnyUser != (r.Team == "preview") {
			t.Errorf("any_user of %s is %v", r.Team, r.AnyUser)
		}
	}
	want := map[string][]string{"ci": {"github-runner", "gitlab-runner"}, "preview": {"deploy"}, "apps": {"app"}}
	if diff := cmp.Diff(want, users); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

// TestTheRunnerOfGitLabReachesTheExporter: what a container needs for that is in no other test.
func TestTheRunnerOfGitLabReachesTheExporter(t *testing.T) {
	text := tools.Read(t, "leases/gitlab/config.toml")
	dir := filepath.Dir(strings.TrimPrefix(defaultOf(t, "lease.listen-address"), "unix:"))
	for _, want := range []string{"  network_mode = \"host\"\n", `"` + dir + ":" + dir + `:ro"`, "    user = \""} {
		if !strings.Contains(text, want) {
			t.Errorf("config.toml has no %s", want)
		}
	}
}

// TestSystemdFindsNoFaultInTheTemplateOfAnApplication. test/systemd runs it.
func TestSystemdFindsNoFaultInTheTemplateOfAnApplication(t *testing.T) {
	analyze := tools.Look(t, "systemd-analyze")
	dir := installedUnits(t)
	text := strings.Replace(tools.Read(t, "leases/app@.service"), "\nExecStart=/usr/bin/listen_exporter ", "\nExecStart="+program.Path(t)+" ", 1)
	write(t, filepath.Join(dir, "app@.service"), text)
	if output, err := exec.Command(analyze, "verify", "--man=no", filepath.Join(dir, "app@.service")).CombinedOutput(); err != nil || len(output) > 0 {
		t.Errorf("systemd-analyze verify: %v\n%s", err, output)
	}
}
