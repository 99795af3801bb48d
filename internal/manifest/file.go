package manifest

import "github.com/listen-exporter/listen_exporter/internal/wording"

// file checks the content of a file.
func (c *checker) file(r *report, data []byte, isJSON bool) {
	chunks := split
	if isJSON {
		data = jsonEscape.ReplaceAllFunc(data, yamlEscape)
		chunks = splitJSON
	}
	type document struct {
		chunk
		objects []object
		err     error
	}
	var documents []document
	for _, chunk := range chunks(data) {
		objects, template, err := chunk.read()
		if template > 0 {
			r.skip(template, "is a template, not YAML: want what it renders to, as helm template prints it")
			return
		}
		documents = append(documents, document{chunk, objects, err})
	}
	for _, doc := range documents {
		if doc.err != nil {
			line, problem := doc.explain(doc.err)
			problem = wording.Printable(problem)
			if likeManifest.Match(doc.text) {
				r.find(place{line, 1}, "is not YAML: %s: want a manifest that kubectl can read", problem)
			} else {
				r.skip(line, "is not YAML: %s", problem)
			}
		}
		for i := range doc.objects {
			c.object(r, &doc.objects[i], "", "")
		}
	}
}
