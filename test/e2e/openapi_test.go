package e2e_test

import (
	"context"
	"fmt"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/chromedp"
	"github.com/goccy/go-yaml"
	"github.com/google/go-cmp/cmp"

	"github.com/opencpm/opencpm/test/harness"
)

func TestOpenAPIDocument(t *testing.T) {
	harness.OnEachStore(t, func(t *testing.T, s *harness.Store) {
		server := s.Serve(t)
		api := anonymous(t, server) // parses and validates the document
		if v := api.contract.doc.OpenAPI; !strings.HasPrefix(v, "3.1.") {
			t.Errorf("openapi %q, want 3.1", v)
		}
		status, text := api.glance(t, "/openapi.yaml")
		if status != 200 {
			t.Fatalf("/openapi.yaml: %d", status)
		}
		_, asJSON := api.glance(t, "/openapi.json")
		var fromYAML, fromJSON any // JSON is YAML too
		if err := yaml.Unmarshal([]byte(text), &fromYAML); err != nil {
			t.Fatal(err)
		}
		if err := yaml.Unmarshal([]byte(asJSON), &fromJSON); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(fromJSON, fromYAML); diff != "" {
			t.Errorf("/openapi.yaml differs from /openapi.json:\n%s", diff)
		}
	})
}

// The browser that opens /docs can resolve no name at all, and must show the operations all the same.
func TestDocsLoadWithoutAnyNetwork(t *testing.T) {
	t.Parallel()
	server := harness.SQLite(t).Serve(t)
	api := anonymous(t, server)
	record := api.contract.doc.Paths.Value("/v1/permissions/transactions").Post
	signs := append([]string{record.Summary}, record.Tags...)

	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	ctx, cancel = chromedp.NewExecAllocator(ctx, append(chromedp.DefaultExecAllocatorOptions[:],
		chromedp.NoSandbox, chromedp.DisableGPU, chromedp.WindowSize(1280, 900), chromedp.Flag("disable-component-update", true),
		chromedp.Flag("host-resolver-rules", "MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"))...)
	defer cancel()
	ctx, cancel = chromedp.NewContext(ctx)
	defer cancel()

	var mu sync.Mutex
	var elsewhere []string
	err := chromedp.Listen(ctx, func(event any) {
		e, ok := event.(*network.EventRequestWillBeSent)
		if !ok {
			return
		}
		u, err := url.Parse(e.Request.URL)
		if err == nil && (u.Scheme == "data" || u.Scheme == "blob" || strings.HasPrefix(e.Request.URL, server.URL+"/")) {
			return
		}
		mu.Lock()
		defer mu.Unlock()
		elsewhere = append(elsewhere, e.Request.URL)
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := chromedp.Do(ctx, chromedp.Navigate(server.URL+"/docs")); err != nil {
		t.Fatal(err)
	}
	var text string
	eventually(t, time.Minute, fmt.Sprintf("/docs shows one of %q", signs), func() bool {
		if text, err = chromedp.Run(ctx, chromedp.Evaluate[string](`document.body.innerText`)); err != nil {
			t.Fatal(err)
		}
		for _, sign := range signs {
			if sign != "" && strings.Contains(strings.ToLower(text), strings.ToLower(sign)) {
				return true
			}
		}
		return false
	})
	mu.Lock()
	defer mu.Unlock()
	if len(elsewhere) > 0 {
		t.Errorf("/docs asked for %q", elsewhere)
	}
}
