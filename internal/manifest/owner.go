package manifest

import (
	"fmt"

	"github.com/listen-exporter/listen_exporter/internal/wording"
)

// owner is an object that has ports.
type owner struct {
	kind, namespace, name string
	// templated reports whether a template fills in the namespace.
	templated bool
}

// String returns "Deployment team-alpha/web".
func (o *owner) String() string {
	name := "without a name"
	if o.name != "" {
		name = wording.Name(o.name)
	}
	return fmt.Sprintf("%s %s/%s", o.kind, wording.Name(o.namespace), name)
}

// same reports whether two documents describe one object.
func (o *owner) same(p *owner) bool {
	return o == p || o.name != "" && o.kind == p.kind && o.namespace == p.namespace && o.name == p.name
}
