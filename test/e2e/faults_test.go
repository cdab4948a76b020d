package e2e_test

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/opencpm/opencpm/test/harness"
)

// talk starts an endpoint that treats each connection in its own way after it has read the request, and returns its URL.
// The connection is closed afterwards.
func talk(t *testing.T, then func(net.Conn)) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				request, err := http.ReadRequest(bufio.NewReader(conn))
				if err != nil {
					return
				}
				_, _ = io.Copy(io.Discard, request.Body)
				then(conn)
			}()
		}
	}()
	return "http://" + l.Addr().String() + "/"
}

// say writes until the other end has had enough.
func say(conn net.Conn, head, again string, pace time.Duration) {
	_, err := io.WriteString(conn, head)
	for err == nil && again != "" {
		_, err = io.WriteString(conn, again)
		time.Sleep(pace)
	}
}

// answering is the URL of an endpoint that gives this answer.
func answering(t *testing.T, status int, header ...string) string {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		for i := 0; i+1 < len(header); i += 2 {
			w.Header().Set(header[i], header[i+1])
		}
		w.WriteHeader(status)
	}))
	t.Cleanup(s.Close)
	return s.URL
}

// TestFaultTable meets every fault an endpoint can show with the real server. Each leaves a line in the log that says what
// happened in words, is retried, and costs nothing: when the subscription is mended the message arrives.
func TestFaultTable(t *testing.T) {
	harness.OnEachStore(t, func(t *testing.T, s *harness.Store) {
		var redirected atomic.Int64
		inside := talk(t, func(net.Conn) { redirected.Add(1) })
		closed, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		closed.Close()
		secure := httptest.NewTLSServer(http.NotFoundHandler())
		t.Cleanup(secure.Close)
		secure.Config.ErrorLog = nil
		plain := answering(t, 204)
		hundredMegabytes := strings.Repeat("x", 1<<20)

		faults := []struct{ name, url, reason string }{
			{"refuses the connection", "http://" + closed.Addr().String() + "/", `connection refused`},
			{"resets it", talk(t, func(c net.Conn) { _ = c.(*net.TCPConn).SetLinger(0) }), `connection reset before an answer came`},
			{"accepts and closes", talk(t, func(net.Conn) {}), `connection closed before an answer came`},
			{"hangs", talk(t, func(c net.Conn) { _, _ = c.Read(make([]byte, 1)) }), `timed out after 1s while waiting for the answer`},
			{"drips its headers", talk(t, func(c net.Conn) { say(c, "HTTP/1.1 200 OK\r\nX-A: ", ".", 20*time.Millisecond) }), `timed out after 1s while waiting for the answer`},
			{"has no end of headers", talk(t, func(c net.Conn) { say(c, "HTTP/1.1 200 OK\r\nX-A: ", "aaaaaaaaaaaaaaaa", 0) }), `the headers of the answer exceed 64 KiB`},
			{"refuses with 100 MB", talk(t, func(c net.Conn) { say(c, "HTTP/1.1 500 No\r\nContent-Length: 104857600\r\n\r\n", hundredMegabytes, 0) }), `the endpoint answered 500`},
			{"speaks something else", talk(t, func(c net.Conn) { say(c, "220 mail.example ESMTP\r\n", "", 0) }), `the answer is not valid HTTP`},
			{"redirects to loopback", answering(t, 307, "Location", inside), `the endpoint answered 307`},
			{"redirects elsewhere", answering(t, 301, "Location", "https://example.com/"), `the endpoint answered 301`},
			{"has a certificate of its own making", secure.URL, `TLS certificate is (self-signed|signed by an unknown authority.*)`},
			{"speaks no TLS where it should", strings.Replace(plain, "http:", "https:", 1), `the endpoint does not speak TLS on this port`},
			{"has a name that does not exist", "https://nowhere.invalid/", `(the host name does not exist or has no address|the name server .*)`},
			{"answers 400", answering(t, 400), `the endpoint answered 400`},
			{"answers 401", answering(t, 401), `the endpoint answered 401`},
			{"answers 404", answering(t, 404), `the endpoint answered 404`},
			{"answers 410", answering(t, 410), `the endpoint answered 410`},
			{"answers 413", answering(t, 413), `the endpoint answered 413`},
			{"answers 429 and when", answering(t, 429, "Retry-After", "1"), `the endpoint answered 429 and asked for a pause of 1s`},
			{"answers 429", answering(t, 429), `the endpoint answered 429`},
			{"answers 500", answering(t, 500), `the endpoint answered 500`},
			{"answers 503 and when", answering(t, 503, "Retry-After", "2"), `the endpoint answered 503 and asked for a pause of 2s`},
			{"answers 503 and nonsense", answering(t, 503, "Retry-After", "soon"), `the endpoint answered 503`},
		}
		w := start(t, s, northwind, "--webhook-allow-net", "127.0.0.0/8", "--webhook-timeout", "1s", "--webhook-quick-delays", "50ms", "--webhook-retry-interval", "1s")
		ids, good := map[string]string{}, harness.NewReceiver(t)
		for _, f := range faults {
			ids[f.name] = w.subscribe(t, f.url, object{"name": f.name}).text(t, "id")
		}
		// One whose body never ends, or comes byte by byte, has accepted the message with its status.
		for name, endless := range map[string]func(net.Conn){
			"accepts with 100 MB":       func(c net.Conn) { say(c, "HTTP/1.1 200 OK\r\nContent-Length: 104857600\r\n\r\n", hundredMegabytes, 0) },
			"accepts and drips its say": func(c net.Conn) { say(c, "HTTP/1.1 200 OK\r\n\r\n", ".", 20*time.Millisecond) },
		} {
			ids[name] = w.subscribe(t, talk(t, endless), object{"name": name}).text(t, "id")
		}
		w.record(t, "CUST-1", change("newsletter-email", "consent", "GRANTED"))

		for _, f := range faults {
			line := regexp.MustCompile(`msg="webhook not delivered".* subscription=` + ids[f.name] + ` .*reason="?` + f.reason)
			for deadline := time.Now().Add(harness.Patience); !line.MatchString(s.Emitted.String()); time.Sleep(20 * time.Millisecond) {
				if time.Now().After(deadline) {
					of := regexp.MustCompile(`.*subscription=`+ids[f.name]+`.*`).FindAllString(s.Emitted.String(), 3)
					t.Fatalf("an endpoint that %s leaves no line that says %s, but %q", f.name, f.reason, of)
				}
			}
		}
		for name, id := range ids {
			if !strings.HasPrefix(name, "accepts ") || name == "accepts and closes" {
				w.api.do(t, "PATCH", "/v1/subscriptions/"+id, object{"url": good.URL + "/" + id}).want(t, 200)
				continue
			}
			if strings.Contains(s.Emitted.String(), "subscription="+id) {
				t.Errorf("an endpoint that %s did not accept the message", name)
			}
		}
		good.Await(t, "CUST-1", "what every mended endpoint missed", func(list []harness.Message) bool {
			arrived := map[string]bool{}
			for _, m := range list {
				arrived[m.Path] = true
			}
			return len(arrived) == len(faults)
		})
		if n := redirected.Load(); n != 0 {
			t.Errorf("a redirect was followed %d times", n)
		}
		deadline := time.Now().Add(harness.Patience)
		for name, id := range ids {
			accepts := strings.HasPrefix(name, "accepts ") && name != "accepts and closes"
			for {
				e := w.api.do(t, "GET", "/v1/subscriptions/"+id, nil).want(t, 200).body.(object)["endpoint"].(object)
				if e["state"] == "healthy" && e["delivered"] == 1.0 && (e["failed"] == 0.0) == accepts {
					break
				}
				if time.Now().After(deadline) {
					t.Fatalf("an endpoint that %s is said to be %v after it was mended", name, e)
				}
				time.Sleep(50 * time.Millisecond)
			}
		}
	})
}
