// Package arch tests the shape of the repository: which package may import which, and the house rules that a machine
// can hold.
package arch

import (
	"bytes"
	"encoding/json"
	"fmt"
	"go/parser"
	"go/token"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestRepositoryKeepsTheRules(t *testing.T) {
	fset := token.NewFileSet()
	files := repository(t, fset)
	for _, r := range rules {
		t.Run(r.name, func(t *testing.T) {
			for _, f := range files {
				r.breaks(f, func(at token.Pos, what string) {
					t.Errorf("%s %s\nthe rule: %s", fset.Position(at), what, r.law)
				})
			}
		})
	}
}

// repository parses every Go file of the module, whatever its build constraints say.
func repository(t *testing.T, fset *token.FileSet) []*file {
	t.Helper()
	list := exec.Command("go", "list", "-json=Dir,ImportPath,GoFiles,CgoFiles,IgnoredGoFiles,TestGoFiles,XTestGoFiles", "./...")
	list.Dir = "../.."
	var complaints strings.Builder
	list.Stderr = &complaints
	output, err := list.Output()
	if err != nil {
		t.Fatalf("go list: %v\n%s", err, complaints.String())
	}
	var files []*file
	for packages := json.NewDecoder(bytes.NewReader(output)); packages.More(); {
		var p struct {
			Dir, ImportPath                                              string
			GoFiles, CgoFiles, IgnoredGoFiles, TestGoFiles, XTestGoFiles []string
		}
		if err := packages.Decode(&p); err != nil {
			t.Fatal(err)
		}
		pkg, _ := cutModule(p.ImportPath)
		for _, name := range slices.Concat(p.GoFiles, p.CgoFiles, p.IgnoredGoFiles, p.TestGoFiles, p.XTestGoFiles) {
			source, err := os.ReadFile(filepath.Join(p.Dir, name))
			if err != nil {
				t.Fatal(err)
			}
			files = append(files, parse(t, fset, path.Join(pkg, name), string(source)))
		}
	}
	if len(files) == 0 {
		t.Fatal("go list names no file: nothing would be checked")
	}
	return files
}

// parse reads one file; name is its path below the module's root.
func parse(t *testing.T, fset *token.FileSet, name, source string) *file {
	t.Helper()
	syntax, err := parser.ParseFile(fset, name, source, parser.ParseComments|parser.SkipObjectResolution)
	if err != nil {
		t.Fatal(err)
	}
	return &file{pkg: path.Dir(name), test: strings.HasSuffix(name, "_test.go"), syntax: syntax}
}

// samples holds for every rule files that break it and files that just keep it. A rule that cannot be broken holds
// nothing.
var samples = map[string]struct{ broken, kept map[string]string }{
	"imports of consent": {
		broken: map[string]string{"internal/consent/a.go": ours("seal")},
		kept:   map[string]string{"internal/consent/a_test.go": ours("store/storetest"), "internal/consent/b.go": imports("time")},
	},
	"imports of seal": {
		broken: map[string]string{"internal/seal/a.go": ours("consent")},
		kept:   map[string]string{"internal/seal/a.go": imports("crypto/cipher")},
	},
	"imports of store": {
		broken: map[string]string{"internal/store/storetest/a.go": ours("core")},
		kept:   map[string]string{"internal/store/a.go": ours("consent", "seal"), "internal/store/storetest/a.go": ours("store")},
	},
	"imports of token": {
		broken: map[string]string{"internal/token/a.go": ours("store")},
		kept:   map[string]string{"internal/token/a.go": ours("consent", "seal")},
	},
	"imports of words": {
		broken: map[string]string{"internal/words/a.go": ours("consent")},
		kept:   map[string]string{"internal/words/a.go": imports("embed")},
	},
	"imports of mail": {
		broken: map[string]string{"internal/mail/a.go": imports(module + "/client")},
		kept:   map[string]string{"internal/mail/a.go": ours("consent", "words")},
	},
	"imports of core": {
		broken: map[string]string{"internal/core/a.go": ours("deliver")},
		kept:   map[string]string{"internal/core/a.go": ours("consent", "store", "token", "seal", "safehttp", "mail", "words")},
	},
	"imports of deliver": {
		broken: map[string]string{"internal/deliver/a.go": ours("web")},
		kept:   map[string]string{"internal/deliver/a.go": ours("store", "core", "safehttp", "observe")},
	},
	"imports of jobs": {
		broken: map[string]string{"internal/jobs/a.go": ours("api")},
		kept:   map[string]string{"internal/jobs/a.go": ours("store", "core")},
	},
	"imports of api": {
		broken: map[string]string{"internal/api/a.go": ours("portal")},
		kept:   map[string]string{"internal/api/a.go": ours("core")},
	},
	"imports of console": {
		broken: map[string]string{"internal/console/a.go": ours("api")},
		kept:   map[string]string{"internal/console/a.go": ours("core", "web")},
	},
	"imports of portal": {
		broken: map[string]string{"internal/portal/a.go": ours("console")},
		kept:   map[string]string{"internal/portal/a.go": ours("core", "web")},
	},
	"nobody imports cmd": {
		broken: map[string]string{"test/e2e/a_test.go": imports(module + "/cmd/opencpm")},
		kept:   map[string]string{"cmd/opencpm/a.go": ours("core")},
	},
	"only tests import storetest": {
		broken: map[string]string{"cmd/opencpm/a.go": ours("store/storetest")},
		kept:   map[string]string{"cmd/opencpm/a_test.go": ours("store/storetest"), "test/chaos/a.go": ours("store/storetest")},
	},
	"SQL only in store": {
		broken: map[string]string{"internal/core/a_test.go": imports("github.com/jackc/pgx/v5/pgxpool"), "cmd/opencpm/a.go": imports("database/sql")},
		kept:   map[string]string{"internal/store/storetest/a.go": imports("github.com/jackc/pgx/v5"), "test/e2e/a_test.go": imports("database/sql")},
	},
	"outbound HTTP only in safehttp": {
		broken: map[string]string{
			"internal/deliver/a.go": `package deliver; import web "net/http"; var c = &web.Client{}`,
			"internal/core/a.go":    `package core; import . "net/http"; var c = Get`,
		},
		kept: map[string]string{
			"internal/deliver/a.go":      `package deliver; import "net/http"; var r, _ = http.NewRequest(http.MethodPost, "", nil)`,
			"internal/deliver/a_test.go": `package deliver; import "net/http"; var c http.Client`,
			"internal/safehttp/a.go":     `package safehttp; import "net/http"; var t http.Transport`,
			"client/a.go":                `package client; import "net/http"; var c http.Client`,
		},
	},
	"consent has no clock": {
		broken: map[string]string{"internal/consent/a.go": `package consent; import "time"; var clock = time.Now`},
		kept: map[string]string{
			"internal/consent/a.go": `package consent; import "time"; var epoch = time.Unix(0, 0)`,
			"internal/core/a.go":    `package core; import "time"; var clock = time.Now`,
		},
	},
	"no init functions": {
		broken: map[string]string{"client/a_test.go": `package client; func init() {}`},
		kept: map[string]string{
			"client/a.go":        "// Code generated by a test. DO NOT EDIT.\n\npackage client\n\nfunc init() {}",
			"internal/jobs/a.go": `package jobs; type job struct{}; func (job) init() {}`,
		},
	},
	"packages say what they hold": {
		broken: map[string]string{"internal/util/a.go": `package text`, "internal/text/a_test.go": `package helpers_test`},
		kept:   map[string]string{"internal/utility/a.go": `package utility`},
	},
}

func TestRulesCanBeBroken(t *testing.T) {
	for _, r := range rules {
		t.Run(r.name, func(t *testing.T) {
			sample := samples[r.name]
			if len(sample.broken) == 0 || len(sample.kept) == 0 {
				t.Fatal("the rule has no samples")
			}
			for name, source := range sample.broken {
				if n := breaches(t, r, name, source); n != 1 {
					t.Errorf("%s: found %d breaches, want 1:\n%s", name, n, source)
				}
			}
			for name, source := range sample.kept {
				if n := breaches(t, r, name, source); n != 0 {
					t.Errorf("%s: found %d breaches, want none:\n%s", name, n, source)
				}
			}
		})
	}
}

// breaches counts what in one file breaks the rule.
func breaches(t *testing.T, r rule, name, source string) (n int) {
	t.Helper()
	r.breaks(parse(t, token.NewFileSet(), name, source), func(token.Pos, string) { n++ })
	return n
}

// ours is a file that imports parts of internal/.
func ours(parts ...string) string {
	for i, part := range parts {
		parts[i] = module + "/internal/" + part
	}
	return imports(parts...)
}

// imports is a file that imports packages.
func imports(packages ...string) string {
	source := "package sample"
	for _, p := range packages {
		source += fmt.Sprintf("; import _ %q", p)
	}
	return source
}
