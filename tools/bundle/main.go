// Command bundle makes the assets that the binary carries out of the sources in
// web/: scripts compiled and bundled, style sheets with what they import, fonts,
// all minified and under names that carry a hash, with a manifest that leads from
// the one name to the other. Its output is committed, so that building the product
// needs neither this command nor Node.
package main

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/evanw/esbuild/pkg/api"
)

// entries are the sources that become files of their own.
var entries = []string{"demo/demo.ts", "demo/demo.css", "brand/favicon.svg"}

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
	if err := os.RemoveAll(out); err != nil {
		return err
	}
	if err := os.MkdirAll(out, 0o755); err != nil {
		return err
	}
	for _, f := range result.OutputFiles {
		if err := os.WriteFile(f.Path, f.Contents, 0o644); err != nil {
			return err
		}
	}
	return os.WriteFile(filepath.Join(out, "manifest.json"), manifest, 0o644)
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
