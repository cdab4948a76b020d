package consent

import (
	"bytes"
	"encoding/json"
	"image"
	"image/color"
	"image/png"
	"strings"
	"testing"
)

func drawn(t *testing.T, width, height int, noise bool) []byte {
	t.Helper()
	m, seed := image.NewNRGBA(image.Rect(0, 0, width, height)), uint32(1)
	for i := range m.Pix {
		if noise {
			seed = seed*1664525 + 1013904223
			m.Pix[i] = byte(seed >> 24)
		}
	}
	m.SetNRGBA(0, 0, color.NRGBA{1, 2, 3, 4})
	var b bytes.Buffer
	if err := png.Encode(&b, m); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// branded is a catalogue whose only centre has a brand.
func branded(b Brand) Catalogue {
	return Catalogue{Application: ApplicationSettings{Name: "N"}, PreferenceCentres: []PreferenceCentre{{Reference: "c", Name: "C", Type: LinkCentre, Slug: "c", Brand: b}}}
}

func TestBrands(t *testing.T) {
	small := drawn(t, 8, 8, false)
	for name, c := range map[string]struct {
		brand Brand
		want  string // the place of the fault and a part of its sentence
	}{
		"none":                    {Brand{}, ""},
		"readable in both themes": {Brand{Accent: "#0a5c6b", AccentDark: "#63c7d6"}, ""},
		"too light for light":     {Brand{Accent: "#63c7d6"}, "accent: has a contrast of 1.81 to a light page and of 9.26 to its own text"},
		"too dark for dark":       {Brand{AccentDark: "#0a5c6b"}, "accentDark: has a contrast of 2.27 to a dark page"},
		"a name for a colour":     {Brand{Accent: "red"}, "accent: must be a colour"},
		"a short colour":          {Brand{AccentDark: "#fff"}, "accentDark: must be a colour"},
		"a logo":                  {Brand{Logo: small, LogoDark: small}, ""},
		"a logo that is no PNG":   {Brand{Logo: []byte("<svg onload=alert(1)>")}, "logo: must be a PNG file"},
		"a logo that breaks off":  {Brand{LogoDark: small[:len(small)-20]}, "logoDark: must be a PNG file"},
		"a logo too wide":         {Brand{Logo: drawn(t, 1025, 1, false)}, "logo: must measure at most 1024 pixels"},
		"a logo too heavy":        {Brand{Logo: drawn(t, 300, 300, true)}, "logo: must weigh at most 200 KiB"},
		"a name that is too long": {Brand{Name: strings.Repeat("x", 201)}, "name: "},
	} {
		faults := branded(c.brand).Faults(nil)
		said := ""
		for _, f := range faults {
			said += strings.TrimPrefix(f.Location, "preferenceCentres[0].brand.") + ": " + f.Message + "\n"
		}
		if c.want == "" && said != "" || !strings.Contains(said, c.want) {
			t.Errorf("%s: %q, want %q", name, said, c.want)
		}
	}
}

// What is kept of a logo is the picture: whatever else was in the file is gone, and saving
// it again changes nothing.
func TestLogosAreDrawnAnew(t *testing.T) {
	file := append(drawn(t, 16, 16, true), []byte("<script>alert(1)</script>")...)
	save := func(logo []byte) []byte {
		items, err := branded(Brand{Logo: logo}).Items()
		if err != nil {
			t.Fatal(err)
		}
		var centre PreferenceCentre
		if err := json.Unmarshal(items[len(items)-1].Body, &centre); err != nil {
			t.Fatal(err)
		}
		return centre.Brand.Logo
	}
	first := save(file)
	if bytes.Contains(first, []byte("script")) || len(first) == 0 {
		t.Error("what is no picture was kept")
	}
	if !bytes.Equal(save(first), first) {
		t.Error("saving it again changed it")
	}
	before, err := png.Decode(bytes.NewReader(file))
	if err != nil {
		t.Fatal(err)
	}
	after, err := png.Decode(bytes.NewReader(first))
	if err != nil || before.Bounds() != after.Bounds() || before.At(7, 9) != after.At(7, 9) {
		t.Errorf("it is another picture: %v", err)
	}
	if got := save([]byte("no picture")); string(got) != "no picture" {
		t.Error("what is no picture was changed before it could be refused")
	}
}

func TestAddressesOfCentres(t *testing.T) {
	two := Catalogue{Application: ApplicationSettings{Name: "N"}, PreferenceCentres: []PreferenceCentre{
		{Reference: "a", Name: "A", Type: LinkCentre, Slug: "same", Host: "p.example.com"},
		{Reference: "b", Name: "B", Type: LinkCentre, Slug: "same", Host: "p.example.com"},
	}}
	faults := two.Faults(nil)
	for _, at := range []string{"preferenceCentres[0].slug", "preferenceCentres[0].host", "preferenceCentres[1].slug", "preferenceCentres[1].host"} {
		if !faults.At(at) {
			t.Errorf("nothing is wrong with %s", at)
		}
	}
	if len(faults) != 4 {
		t.Errorf("%v", faults)
	}
}
