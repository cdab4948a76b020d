package portal

import (
	"bytes"
	"flag"
	"image"
	"image/color"
	"image/png"
	"os"
	"path/filepath"
	"testing"

	"github.com/opencpm/opencpm/internal/web/webtest"
)

var updatePictures = flag.Bool("update-pictures", false, "record how the pages look in this Chromium")

// pictures are the looks that must not change by accident. They show no times, which the
// reader's clock writes, and no script but ours, whose letters depend on the system.
var pictures = []struct {
	name string
	view webtest.View
}{
	{"manage", webtest.View{Width: 1440, Height: 900}},
	{"manage", webtest.View{Width: 1440, Height: 900, Dark: true}},
	{"manage", webtest.View{Width: 390}},
	{"manage-context", webtest.View{Width: 390, Dark: true}},
	{"manage-error", webtest.View{Width: 390}},
	{"sign-up-error", webtest.View{Width: 1440, Height: 900}},
	{"link", webtest.View{Width: 390, Dark: true}},
	{"code-wrong", webtest.View{Width: 390}},
	{"confirm", webtest.View{Width: 390}},
	{"unsubscribed", webtest.View{Width: 390, Dark: true}},
}

const recorded = "testdata/pictures"

// The pages look as they did, to the pixel. Each version of Chromium draws in its own way,
// so pictures are kept by version; in one that has none nothing can be compared, and the
// test says so in its log.
func TestPictures(t *testing.T) {
	url := gallery(t)
	version := webtest.Run[string](openAt(t, url, "confirm", webtest.View{}), `navigator.userAgentData.getHighEntropyValues(["fullVersionList"]).then(v => v.fullVersionList.find(b => b.brand.startsWith("Chrom")).version)`)
	dir := filepath.Join(recorded, version)
	if *updatePictures {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	versions, err := os.ReadDir(recorded)
	if err != nil || len(versions) == 0 {
		t.Fatalf("there are no pictures in %s: record them with -update-pictures: %v", recorded, err)
	}
	if _, err := os.Stat(dir); err != nil {
		t.Logf("Nothing was compared: there are pictures of %v, and this is Chromium %s. To record them: go test ./internal/portal -run TestPictures -update-pictures", versions, version)
		return
	}
	for _, p := range pictures {
		file := filepath.Join(dir, p.name+"-"+p.view.String()+".png")
		got := openAt(t, url, p.name, p.view).Picture()
		if *updatePictures {
			if err := os.WriteFile(file, got, 0o644); err != nil {
				t.Fatal(err)
			}
			continue
		}
		want, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		comparePictures(t, p.name+"-"+p.view.String(), want, got)
	}
}

func openAt(t *testing.T, url, name string, v webtest.View) *webtest.Tab {
	t.Helper()
	tab := webtest.Open(t, v)
	tab.Goto(url + "/see/en/" + name)
	return tab
}

// comparePictures fails the test where two pictures differ, and writes both, and where
// they do, to files.
func comparePictures(t *testing.T, name string, want, got []byte) {
	t.Helper()
	if bytes.Equal(want, got) {
		return
	}
	before, err := png.Decode(bytes.NewReader(want))
	if err != nil {
		t.Fatal(err)
	}
	after, err := png.Decode(bytes.NewReader(got))
	if err != nil {
		t.Fatal(err)
	}
	all, n := before.Bounds().Union(after.Bounds()), 0
	difference := image.NewGray(all)
	for y := all.Min.Y; y < all.Max.Y; y++ {
		for x := all.Min.X; x < all.Max.X; x++ {
			r1, g1, b1, _ := before.At(x, y).RGBA()
			r2, g2, b2, _ := after.At(x, y).RGBA()
			if r1 != r2 || g1 != g2 || b1 != b2 {
				difference.SetGray(x, y, color.Gray{255})
				n++
			}
		}
	}
	if n == 0 && before.Bounds() == after.Bounds() {
		return
	}
	dir, err := os.MkdirTemp("", "opencpm-pictures-")
	if err != nil {
		t.Fatal(err)
	}
	var drawn bytes.Buffer
	if err := png.Encode(&drawn, difference); err != nil {
		t.Fatal(err)
	}
	for kind, file := range map[string][]byte{"before": want, "after": got, "difference": drawn.Bytes()} {
		if err := os.WriteFile(filepath.Join(dir, name+"-"+kind+".png"), file, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	t.Errorf("%s looks different in %d pixels: see %s. Where that is meant: -update-pictures", name, n, dir)
}
