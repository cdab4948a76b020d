package arch

import (
	"go/ast"
	"go/token"
	"path"
	"slices"
	"strconv"
	"strings"
)

const module = "github.com/opencpm/opencpm"

// A file is one Go file of the module.
type file struct {
	pkg    string // the directory of its package below the module's root: internal/store/storetest
	test   bool   // its name ends in _test.go
	syntax *ast.File
}

// part names the part of the architecture the file belongs to.
func (f *file) part() string { return partOf(f.pkg) }

// partOf turns the directory internal/store/storetest into the part store, and cmd/opencpm into cmd.
func partOf(pkg string) string {
	first, _, _ := strings.Cut(strings.TrimPrefix(pkg, "internal/"), "/")
	return first
}

// A rule is one sentence about the code and the function that reports what in a file breaks it.
type rule struct {
	name   string
	law    string
	breaks func(f *file, report func(at token.Pos, what string))
}

// rules are the import rule and the house rules of the architecture that a machine can hold. A rule about a package
// that does not exist yet applies from the day it does.
var rules = []rule{
	importsOnly("consent"),
	importsOnly("seal"),
	importsOnly("store", "consent", "seal"),
	importsOnly("token", "consent", "seal"),
	importsOnly("words"),
	importsOnly("mail", "consent", "words"),
	importsOnly("core", "consent", "store", "token", "seal", "safehttp", "mail", "words"),
	importsNoneOf("deliver", "reaches data through store and core", "api", "console", "portal", "web"),
	importsNoneOf("jobs", "reach data through store and core", "api", "console", "portal", "web"),
	importsNoneOf("api", "shows what core does", "console", "portal"),
	importsNoneOf("console", "shows what core does", "api", "portal"),
	importsNoneOf("portal", "shows what core does", "api", "console"),
	{
		name: "nobody imports cmd",
		law:  "cmd is where the parts are put together; what others need belongs into internal/",
		breaks: func(f *file, report func(token.Pos, string)) {
			f.imports(func(at token.Pos, imported string) {
				if pkg, ours := cutModule(imported); ours && partOf(pkg) == "cmd" {
					report(at, "imports "+imported)
				}
			})
		},
	},
	{
		name: "only tests import storetest",
		law:  "helpers of tests stay out of the binary",
		breaks: func(f *file, report func(token.Pos, string)) {
			if f.test || f.part() == "test" || path.Base(f.pkg) == "storetest" {
				return
			}
			f.imports(func(at token.Pos, imported string) {
				if path.Base(imported) == "storetest" {
					report(at, "imports "+imported)
				}
			})
		},
	},
	{
		name: "SQL only in store",
		law: "database/sql, pgx, the SQLite driver and the migrations belong to internal/store alone; " +
			"only tests of the whole program, under test/, may tamper with a database behind its back",
		breaks: func(f *file, report func(token.Pos, string)) {
			if f.part() == "store" || f.part() == "test" {
				return
			}
			f.imports(func(at token.Pos, imported string) {
				for _, driver := range []string{"database/sql", "github.com/jackc/pgx", "modernc.org/sqlite", "github.com/pressly/goose"} {
					if imported == driver || strings.HasPrefix(imported, driver+"/") {
						report(at, "imports "+imported)
					}
				}
			})
		},
	},
	{
		name: "outbound HTTP only in safehttp",
		law: "every request the program makes goes through internal/safehttp, which checks the address it dials; " +
			"only client/ and tests make their own",
		breaks: func(f *file, report func(token.Pos, string)) {
			if f.test || slices.Contains([]string{"safehttp", "client", "test"}, f.part()) {
				return
			}
			f.uses("net/http", report, "Client", "ClientConn", "DefaultClient", "Transport", "DefaultTransport", "Get", "Head", "Post", "PostForm")
			f.uses("net/http/httputil", report, "ReverseProxy", "NewSingleHostReverseProxy", "ClientConn", "NewClientConn", "NewProxyClientConn")
		},
	},
	{
		name: "consent has no clock",
		law:  "time is a parameter in internal/consent",
		breaks: func(f *file, report func(token.Pos, string)) {
			if f.test || f.part() != "consent" {
				return
			}
			f.uses("time", report, "Now", "Since", "Until", "After", "AfterFunc", "Tick", "NewTicker", "NewTimer", "Sleep")
		},
	},
	{
		name: "no init functions",
		law:  "nothing happens because a package was imported: no init outside generated code",
		breaks: func(f *file, report func(token.Pos, string)) {
			if ast.IsGenerated(f.syntax) {
				return
			}
			for _, decl := range f.syntax.Decls {
				if fn, ok := decl.(*ast.FuncDecl); ok && fn.Recv == nil && fn.Name.Name == "init" {
					report(fn.Pos(), "declares func init")
				}
			}
		},
	},
	{
		name: "packages say what they hold",
		law:  "no package is named util, common, models or helpers",
		breaks: func(f *file, report func(token.Pos, string)) {
			vague := []string{"util", "utils", "common", "model", "models", "helper", "helpers"}
			for _, name := range []string{strings.TrimSuffix(f.syntax.Name.Name, "_test"), path.Base(f.pkg)} {
				if slices.Contains(vague, name) {
					report(f.syntax.Name.Pos(), "is in package "+name)
					return
				}
			}
		},
	},
}

// importsOnly is the rule that a part of internal/ imports nothing of ours but the named parts. Its tests may.
func importsOnly(part string, allowed ...string) rule {
	law := part + " imports nothing of ours"
	if len(allowed) > 0 {
		law = part + " imports nothing of ours but " + strings.Join(allowed, ", ")
	}
	return importRule(part, law, func(imported string) bool {
		return imported == part || slices.Contains(allowed, imported)
	})
}

// importsNoneOf is the rule that a part of internal/ imports none of the named parts. Its tests may.
func importsNoneOf(part, because string, forbidden ...string) rule {
	law := part + " " + because + " and never imports " + strings.Join(forbidden, ", ")
	return importRule(part, law, func(imported string) bool {
		return !slices.Contains(forbidden, imported)
	})
}

func importRule(part, law string, allows func(part string) bool) rule {
	return rule{"imports of " + part, law, func(f *file, report func(token.Pos, string)) {
		if f.test || !strings.HasPrefix(f.pkg, "internal/") || f.part() != part {
			return
		}
		f.imports(func(at token.Pos, imported string) {
			if pkg, ours := cutModule(imported); ours && !allows(partOf(pkg)) {
				report(at, "imports "+imported)
			}
		})
	}}
}

// cutModule returns the directory of a package of this module, or false for a package of anybody else.
func cutModule(imported string) (pkg string, ours bool) {
	return strings.CutPrefix(imported, module+"/")
}

// imports yields the import paths of the file.
func (f *file) imports(yield func(at token.Pos, imported string)) {
	for _, spec := range f.syntax.Imports {
		imported, err := strconv.Unquote(spec.Path.Value)
		if err != nil {
			panic(err) // the parser accepts string literals only
		}
		yield(spec.Pos(), imported)
	}
}

// uses reports every use of the named identifiers of a package of the standard library, under whatever name the file
// imports it. Importing it without a name hides the uses and is reported as well.
func (f *file) uses(pkg string, report func(token.Pos, string), identifiers ...string) {
	for _, spec := range f.syntax.Imports {
		if spec.Path.Value != strconv.Quote(pkg) {
			continue
		}
		local := path.Base(pkg)
		if spec.Name != nil {
			local = spec.Name.Name
		}
		if local == "." {
			report(spec.Pos(), "imports "+pkg+" without a name")
			continue
		}
		ast.Inspect(f.syntax, func(n ast.Node) bool {
			selector, ok := n.(*ast.SelectorExpr)
			if !ok {
				return true
			}
			if x, ok := selector.X.(*ast.Ident); ok && x.Name == local && slices.Contains(identifiers, selector.Sel.Name) {
				report(selector.Pos(), "uses "+pkg+"."+selector.Sel.Name)
			}
			return true
		})
	}
}
