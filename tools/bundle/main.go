// Command bundle makes the assets that the binary carries out of the sources in
// web/: scripts compiled and bundled, style sheets with what they import, fonts,
// all minified and under names that carry a hash, with a manifest that leads from
// the one name to the other. Its output is committed, so that building the product
// needs neither this command nor Node.
package main

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/evanw/esbuild/pkg/api"
)

// entries are the sources that become files of their own.
var entries = []string{"demo/demo.ts", "demo/shop.ts", "demo/demo.css", "centre/centre.ts", "centre/centre.css", "brand/favicon.svg"}

// widgets are the sources of the scripts for the pages of others, which know them by
// the names that they have. consent.ts is there for pages that import modules as well.
var widgets = []string{"widget/consent.ts", "widget/manage.ts", "widget/history.ts", "widget/capture.ts", "widget/compat.ts"}

func main() {
	web := flag.String("web", "../../web", "the `directory` of the sources")
	out := flag.String("out", "../../internal/web/assets", "the `directory` of the output, replaced as a whole")
	flag.Parse()
	if err := run(*web, *out); err != nil {
		fmt.Fprintln(os.Stderr, "bundle:", err)
		os.Exit(1)
	}
}

func run(web, out string) error {
	web, err := filepath.Abs(web)
	if err != nil {
		return err
	}
	if out, err = filepath.Abs(out); err != nil {
		return err
	}
	options := api.BuildOptions{
		AbsWorkingDir:     web,
		Outdir:            out,
		EntryPoints:       entries,
		EntryNames:        "[name]-[hash]",
		AssetNames:        "[name]-[hash]",
		Bundle:            true,
		MinifyWhitespace:  true,
		MinifyIdentifiers: true,
		MinifySyntax:      true,
		Charset:           api.CharsetUTF8,
		LegalComments:     api.LegalCommentsNone,
		Format:            api.FormatESModule,
		Metafile:          true,
		Loader:            map[string]api.Loader{".woff2": api.LoaderFile, ".svg": api.LoaderCopy},
		// What the pages may assume: browsers of early 2024.
		Engines:  []api.Engine{{Name: api.EngineChrome, Version: "120"}, {Name: api.EngineFirefox, Version: "121"}, {Name: api.EngineSafari, Version: "17.2"}},
		LogLevel: api.LogLevelWarning,
	}
	result := api.Build(options)
	if len(result.Errors) > 0 {
		return errors.New("the sources do not build")
	}
	manifest, err := manifest(result.Metafile)
	if err != nil {
		return err
	}
	scripts, err := embeds(web, filepath.Join(out, "widget"))
	if err != nil {
		return err
	}
	if err := os.RemoveAll(out); err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Join(out, "widget"), 0o755); err != nil {
		return err
	}
	for _, f := range append(result.OutputFiles, scripts...) {
		if err := os.WriteFile(f.Path, f.Contents, 0o644); err != nil {
			return err
		}
	}
	return os.WriteFile(filepath.Join(out, "manifest.json"), manifest, 0o644)
}

// embeds bundles the widgets. They run on pages that others wrote, in browsers of 2021
// and later, and carry the digest of their sources, by which two of them tell whether
// they are the same.
func embeds(web, out string) ([]api.OutputFile, error) {
	build, err := digest(filepath.Join(web, "widget"))
	if err != nil {
		return nil, err
	}
	engines := []api.Engine{{Name: api.EngineChrome, Version: "94"}, {Name: api.EngineFirefox, Version: "93"}, {Name: api.EngineSafari, Version: "15.4"}}
	options := api.BuildOptions{
		AbsWorkingDir:     web,
		Outdir:            out,
		EntryPoints:       widgets,
		Bundle:            true,
		MinifyWhitespace:  true,
		MinifyIdentifiers: true,
		MinifySyntax:      true,
		MangleProps:       "[a-z]_$", // the names that are ours alone end so
		Charset:           api.CharsetUTF8,
		LegalComments:     api.LegalCommentsNone,
		Format:            api.FormatIIFE,
		Define:            map[string]string{"BUILD": strconv.Quote(build)},
		Engines:           engines,
		LogLevel:          api.LogLevelWarning,
		LogOverride:       map[string]api.LogLevel{"empty-import-meta": api.LogLevelSilent}, // a classic script asks for currentScript
		Plugins: []api.Plugin{{Name: "style sheets as text", Setup: func(b api.PluginBuild) {
			b.OnLoad(api.OnLoadOptions{Filter: `\.css$`}, func(a api.OnLoadArgs) (api.OnLoadResult, error) {
				css, err := os.ReadFile(a.Path)
				if err != nil {
					return api.OnLoadResult{}, err
				}
				small := api.Transform(string(css), api.TransformOptions{Loader: api.LoaderCSS, MinifyWhitespace: true, MinifySyntax: true, Engines: engines})
				text := strings.TrimSpace(string(small.Code))
				return api.OnLoadResult{Contents: &text, Loader: api.LoaderText, Errors: small.Errors}, nil
			})
		}}},
	}
	classic := api.Build(options)
	options.EntryPoints, options.Format, options.OutExtension = widgets[:1], api.FormatESModule, map[string]string{".js": ".mjs"}
	module := api.Build(options)
	if len(classic.Errors)+len(module.Errors) > 0 {
		return nil, errors.New("the widgets do not build")
	}
	files := append(classic.OutputFiles, module.OutputFiles...)
	for _, name := range []string{"consent.d.ts", "react.mjs"} { // served as they are
		b, err := os.ReadFile(filepath.Join(web, "widget", name))
		if err != nil {
			return nil, err
		}
		files = append(files, api.OutputFile{Path: filepath.Join(out, name), Contents: b})
	}
	return files, nil
}

// digest is that of all files of a directory.
func digest(dir string) (string, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return "", err
	}
	h := sha256.New()
	for _, e := range entries {
		b, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			return "", err
		}
		fmt.Fprintf(h, "%s %d\n%s", e.Name(), len(b), b)
	}
	return hex.EncodeToString(h.Sum(nil))[:8], nil
}

// manifest leads from the name of a source, with the ending that a browser knows,
// to the name of its output.
func manifest(metafile string) ([]byte, error) {
	var meta struct {
		Outputs map[string]struct {
			EntryPoint string              `json:"entryPoint"`
			Inputs     map[string]struct{} `json:"inputs"`
		} `json:"outputs"`
	}
	if err := json.Unmarshal([]byte(metafile), &meta); err != nil {
		return nil, err
	}
	names := map[string]string{}
	for output, m := range meta.Outputs {
		source := m.EntryPoint
		if source == "" && len(m.Inputs) == 1 {
			for input := range m.Inputs {
				source = input
			}
		}
		name := filepath.Base(source)
		if script, ok := strings.CutSuffix(name, ".ts"); ok {
			name = script + ".js"
		}
		if _, twice := names[name]; twice || source == "" {
			return nil, fmt.Errorf("no name of its own for the output %s", output)
		}
		names[name] = filepath.Base(output)
	}
	b, err := json.MarshalIndent(names, "", "  ")
	return append(b, '\n'), err
}
