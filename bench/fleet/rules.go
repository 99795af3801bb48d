package main

import (
	"fmt"
	"os"
	"time"

	"github.com/prometheus/prometheus/promql/parser"
	"go.yaml.in/yaml/v3"
)

// rule is one of the rule file.
type rule struct {
	group, name, expr string
	selectors         []string // what it reads, each as an expression that has a sample for each series
}

func readRules(file string) ([]rule, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	var content struct {
		Groups []struct {
			Name  string
			Rules []struct{ Alert, Record, Expr string }
		}
	}
	if err := yaml.Unmarshal(text, &content); err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	var rules []rule
	for _, group := range content.Groups {
		for _, r := range group.Rules {
			selectors, err := selectorsOf(r.Expr)
			if err != nil {
				return nil, fmt.Errorf("%s: %s%s: %w", file, r.Alert, r.Record, err)
			}
			rules = append(rules, rule{group.Name, r.Alert + r.Record, r.Expr, selectors})
		}
	}
	if len(rules) == 0 {
		return nil, fmt.Errorf("%s: it has no rules", file)
	}
	return rules, nil
}

// lookback is how old a sample may be that Prometheus takes for the present one.
const lookback = 5 * time.Minute

func selectorsOf(expression string) ([]string, error) {
	parsed, err := parser.ParseExpr(expression)
	if err != nil {
		return nil, err
	}
	var selectors []string
	parser.Inspect(parsed, func(node parser.Node, path []parser.Node) error {
		selector, ok := node.(*parser.VectorSelector)
		if !ok {
			return nil
		}
		window := fmt.Sprintf("%s[%s]", selector, lookback)
		if len(path) > 0 {
			if matrix, ok := path[len(path)-1].(*parser.MatrixSelector); ok {
				window = matrix.String()
			}
		}
		selectors = append(selectors, window)
		return nil
	})
	return selectors, nil
}
