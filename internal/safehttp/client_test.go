package safehttp

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/net/dns/dnsmessage"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// Two loopback addresses that stand for a permitted and a forbidden one.
const permittedNet, permittedIP, forbiddenIP = "127.0.0.2/32", "127.0.0.2", "127.0.0.1"

var loopback = allow("127.0.0.0/8")

// short is the timeout of calls that are meant to run into it; long is that of all others.
const short, long = 300 * time.Millisecond, 30 * time.Second

func newClient(t *testing.T, p Policy, o Options) *Client {
	t.Helper()
	c := NewClient(p, o)
	t.Cleanup(c.Close)
	return c
}

// post sends a request that is to be answered.
func post(t *testing.T, c *Client, r Request) Response {
	t.Helper()
	if r.Timeout == 0 {
		r.Timeout = long
	}
	answer, err := c.Post(t.Context(), r)
	if err != nil {
		t.Fatalf("%s: %v", r.URL, err)
	}
	return answer
}

// wantError sends a request that is to fail, and returns its error.
func wantError(t *testing.T, c *Client, r Request, class Class, reason string) *Error {
	t.Helper()
	if r.Timeout == 0 {
		r.Timeout = long
	}
	answer, err := c.Post(t.Context(), r)
	e, ok := errors.AsType[*Error](err)
	if !ok {
		t.Fatalf("%s: answer %d, error %v, want an Error", r.URL, answer.Status, err)
	}
	if e.Class != class || !strings.Contains(e.Reason, reason) {
		t.Fatalf("%s: error %q (%v), want %s: %s", r.URL, e, e.Err, class, reason)
	}
	if answer.Duration <= 0 {
		t.Errorf("%s: no duration", r.URL)
	}
	return e
}

// serve starts a web server on a loopback address.
func serve(t *testing.T, handler http.HandlerFunc) *httptest.Server {
	t.Helper()
	s := httptest.NewServer(handler)
	t.Cleanup(s.Close)
	return s
}

// serveConns starts a server that knows no HTTP: each connection is given to talk, and closed when it returns or the test
// ends. It returns the address.
func serveConns(t *testing.T, address string, talk func(net.Conn)) string {
	t.Helper()
	l, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	var running sync.WaitGroup
	running.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			stop := context.AfterFunc(t.Context(), func() { conn.Close() })
			running.Go(func() {
				defer stop()
				defer conn.Close()
				talk(conn)
			})
		}
	})
	t.Cleanup(func() { l.Close(); running.Wait() })
	return l.Addr().String()
}

// readRequest takes one request off a connection.
func readRequest(conn net.Conn) {
	r, err := http.ReadRequest(bufio.NewReader(conn))
	if err == nil {
		_, _ = io.Copy(io.Discard, r.Body)
	}
}

// untilClosed waits for the other end to close the connection.
func untilClosed(conn net.Conn) { _, _ = io.Copy(io.Discard, conn) }

// repeat writes text until the other end closes the connection.
func repeat(conn net.Conn, text string) {
	for {
		if _, err := io.WriteString(conn, text); err != nil {
			return
		}
	}
}

func TestPost(t *testing.T) {
	t.Parallel()
	type seen struct {
		method, host, path, body string
		header                   http.Header
	}
	requests := make(chan seen, 2)
	s := serve(t, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		requests <- seen{r.Method, r.Host, r.RequestURI, string(body), r.Header}
		w.Header().Set("Retry-After", "7")
		w.WriteHeader(http.StatusTooManyRequests)
		_, _ = io.WriteString(w, "later")
	})
	c := newClient(t, loopback, Options{})
	answer := post(t, c, Request{
		URL:    s.URL + "//hook?key=a%20b",
		Header: http.Header{"Content-Type": {"application/json"}, "webhook-id": {"m-1"}},
		Body:   []byte(`{"a":1}`),
	})
	if answer.Status != 429 || string(answer.Body) != "later" || answer.Header.Get("Retry-After") != "7" || answer.Truncated || answer.Duration <= 0 {
		t.Errorf("answer %+v", answer)
	}
	got := <-requests
	if got.method != "POST" || "http://"+got.host != s.URL || got.path != "//hook?key=a%20b" || got.body != `{"a":1}` {
		t.Errorf("request %+v", got)
	}
	for name, want := range map[string]string{
		"Content-Type": "application/json", "Webhook-Id": "m-1", "User-Agent": "OpenCPM/devel (+webhooks)", "Accept-Encoding": "", "Content-Length": "7",
	} {
		if got.header.Get(name) != want {
			t.Errorf("%s is %q, want %q", name, got.header.Get(name), want)
		}
	}

	c = newClient(t, loopback, Options{UserAgent: "Tester/1"})
	post(t, c, Request{URL: s.URL})
	if got := <-requests; got.header.Get("User-Agent") != "Tester/1" || got.body != "" {
		t.Errorf("request %+v", got)
	}
}

func TestKeepsConnections(t *testing.T) {
	t.Parallel()
	answers := map[string]int{"/small": 10, "/all": 64 << 10, "/more": 64<<10 + 1}
	remote := make(chan string, 1)
	s := serve(t, func(w http.ResponseWriter, r *http.Request) {
		_, _ = w.Write(make([]byte, answers[r.URL.Path]))
		remote <- r.RemoteAddr
	})
	c := newClient(t, loopback, Options{})
	send := func(path string) string {
		answer := post(t, c, Request{URL: s.URL + path})
		if want := min(answers[path], 4<<10); len(answer.Body) != want {
			t.Errorf("%s: kept %d bytes, want %d", path, len(answer.Body), want)
		}
		if want := answers[path] > 4<<10; answer.Truncated != want {
			t.Errorf("%s: truncated is %v, want %v", path, answer.Truncated, want)
		}
		return <-remote
	}
	first := send("/small")
	if second := send("/small"); second != first {
		t.Error("a second call took a second connection")
	}
	if last := send("/more"); last != first {
		t.Error("a third call took a new connection")
	}
	if next := send("/small"); next == first {
		t.Error("a connection with an unread rest was used again")
	}
}

func TestHTTP2(t *testing.T) {
	t.Parallel()
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/endless":
			for {
				if _, err := w.Write(make([]byte, 16<<10)); err != nil {
					return
				}
			}
		case "/headers":
			for i := range 14 {
				w.Header().Set(fmt.Sprint("X-Large-", i), strings.Repeat("x", 5<<10))
			}
		case "/hang":
			<-r.Context().Done()
			return
		}
		_, _ = io.WriteString(w, r.Proto)
	}))
	s.EnableHTTP2 = true
	s.StartTLS()
	t.Cleanup(s.Close)
	roots := x509.NewCertPool()
	roots.AddCert(s.Certificate())
	c := newClient(t, loopback, Options{RootCAs: roots})

	if answer := post(t, c, Request{URL: s.URL}); string(answer.Body) != "HTTP/2.0" {
		t.Errorf("spoke %s", answer.Body)
	}
	if answer := post(t, c, Request{URL: s.URL + "/endless"}); answer.Status != 200 || len(answer.Body) != 4<<10 || !answer.Truncated {
		t.Errorf("endless body: status %d, kept %d bytes, truncated %v", answer.Status, len(answer.Body), answer.Truncated)
	}
	_ = wantError(t, c, Request{URL: s.URL + "/headers"}, Protocol, "headers of the answer exceed 64 KiB")
	_ = wantError(t, c, Request{URL: s.URL + "/hang", Timeout: short}, Timeout, "waiting for the answer")
	if answer := post(t, c, Request{URL: s.URL}); string(answer.Body) != "HTTP/2.0" {
		t.Errorf("spoke %s", answer.Body)
	}
}

// TestChecksWhatIsDialled judges resolved addresses as the socket does.
func TestChecksWhatIsDialled(t *testing.T) {
	t.Parallel()
	const here = "8.8.4.4" // pretends to be an address of this machine
	tests := []struct {
		policy          Policy
		scheme, address string
		want            string
	}{
		{Policy{}, "https", "8.8.8.8:443", ""},
		{Policy{}, "https", "8.8.8.8:8443", ""},
		{Policy{}, "https", "[2606:4700::1111]:443", ""},
		{Policy{}, "https", "[::ffff:8.8.8.8]:443", ""},
		{Policy{}, "http", "8.8.8.8:80", "plain http to 8.8.8.8 is not allowed"},
		{loopback, "http", "8.8.8.8:80", "plain http to 8.8.8.8 is not allowed"},
		{loopback, "http", "127.9.9.9:80", ""},
		{loopback, "http", "10.0.0.1:80", "10.0.0.1 is not allowed"},
		{Policy{}, "https", "169.254.169.254:443", "169.254.169.254 is not allowed"},
		{Policy{}, "https", "[::ffff:169.254.169.254]:443", "169.254.169.254 is not allowed"},
		{Policy{}, "https", "[::1]:443", "::1 is not allowed"},
		{Policy{}, "https", "[fe80::1%lo]:443", "is not allowed"},
		{Policy{}, "https", "localhost:443", "cannot be read"},
		{Policy{}, "https", here + ":443", here + " is not allowed"},
		{allow("8.8.4.0/24"), "http", here + ":80", ""},
	}
	for _, test := range tests {
		d := dialler{policy: test.policy, own: func(addr netip.Addr) bool { return addr == netip.MustParseAddr(here) }}
		err := d.check(test.scheme, test.address)
		switch {
		case test.want == "" && err != nil:
			t.Errorf("%s %s: %v", test.scheme, test.address, err)
		case test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)):
			t.Errorf("%s %s: error %v, want %q", test.scheme, test.address, err, test.want)
		}
	}
}

func TestOwnAddresses(t *testing.T) {
	t.Parallel()
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		t.Fatal(err)
	}
	for _, addr := range addrs {
		prefix := netip.MustParsePrefix(addr.String())
		if !prefix.Addr().IsLinkLocalUnicast() && !isOwn(prefix.Addr()) { // link-local ones mean nothing without a zone
			t.Errorf("%s is not recognised", addr)
		}
	}
	for _, foreign := range []string{"192.0.2.1", "2001:db8::1"} {
		if isOwn(netip.MustParseAddr(foreign)) {
			t.Errorf("%s is taken for an own address", foreign)
		}
	}
}

// lyingResolver answers each question for an IPv4 address with the next of its lists, the last one for ever.
func lyingResolver(t *testing.T, lists ...[]string) *net.Resolver {
	var asked atomic.Int64
	answer := func(conn net.Conn) error {
		var size [2]byte
		if _, err := io.ReadFull(conn, size[:]); err != nil {
			return err
		}
		question := make([]byte, binary.BigEndian.Uint16(size[:]))
		if _, err := io.ReadFull(conn, question); err != nil {
			return err
		}
		var m dnsmessage.Message
		if err := m.Unpack(question); err != nil {
			return err
		}
		m.Response, m.RecursionAvailable, m.Additionals = true, true, nil
		if q := m.Questions[0]; q.Type == dnsmessage.TypeA {
			list := lists[min(int(asked.Add(1)), len(lists))-1]
			for _, addr := range list {
				m.Answers = append(m.Answers, dnsmessage.Resource{
					Header: dnsmessage.ResourceHeader{Name: q.Name, Type: q.Type, Class: q.Class},
					Body:   &dnsmessage.AResource{A: netip.MustParseAddr(addr).As4()},
				})
			}
		}
		packed, err := m.AppendPack(make([]byte, 2))
		if err != nil {
			return err
		}
		binary.BigEndian.PutUint16(packed, uint16(len(packed)-2))
		_, err = conn.Write(packed)
		return err
	}
	return &net.Resolver{PreferGo: true, Dial: func(context.Context, string, string) (net.Conn, error) {
		ours, theirs := net.Pipe() // no packets, so the resolver speaks DNS over TCP
		go func() {
			defer theirs.Close()
			if err := answer(theirs); err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrClosedPipe) {
				t.Errorf("name server: %v", err)
			}
		}()
		return ours, nil
	}}
}

// twins starts a web server on the permitted address and one on the forbidden address, at the same port, and returns
// that port and how many connections each has had.
func twins(t *testing.T) (port string, permitted, forbidden *atomic.Int64) {
	permitted, forbidden = new(atomic.Int64), new(atomic.Int64)
	count := func(n *atomic.Int64) func(net.Conn) {
		return func(conn net.Conn) {
			n.Add(1)
			readRequest(conn)
			_, _ = io.WriteString(conn, "HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n")
		}
	}
	_, port, err := net.SplitHostPort(serveConns(t, net.JoinHostPort(permittedIP, "0"), count(permitted)))
	if err != nil {
		t.Fatal(err)
	}
	serveConns(t, net.JoinHostPort(forbiddenIP, port), count(forbidden))
	return port, permitted, forbidden
}

// TestRebinding: a name that resolves to a permitted address when it is looked at, and to a forbidden one afterwards.
func TestRebinding(t *testing.T) {
	t.Parallel()
	port, permitted, forbidden := twins(t)
	c := newClient(t, allow(permittedNet), Options{
		Resolver: lyingResolver(t, []string{permittedIP}, []string{forbiddenIP}, []string{forbiddenIP, permittedIP}, []string{forbiddenIP, "169.254.169.254"}),
	})
	request := Request{URL: "http://rebind.example:" + port}
	if answer := post(t, c, request); answer.Status != 204 {
		t.Errorf("status %d", answer.Status)
	}
	_ = wantError(t, c, request, Blocked, "the address 127.0.0.1 is not allowed")
	if answer := post(t, c, request); answer.Status != 204 {
		t.Errorf("status %d where one of two addresses is permitted", answer.Status)
	}
	_ = wantError(t, c, request, Blocked, "is not allowed")
	request.URL = "https://rebind.example:" + port
	_ = wantError(t, c, request, Blocked, "is not allowed")
	if permitted.Load() != 2 || forbidden.Load() != 0 {
		t.Errorf("%d connections to the permitted address, %d to the forbidden one, want 2 and 0", permitted.Load(), forbidden.Load())
	}
}

// TestNamesAreJudgedByTheirAddress: for a name, whether plain http is permitted shows only when it is dialled.
func TestNamesAreJudgedByTheirAddress(t *testing.T) {
	t.Parallel()
	c := newClient(t, loopback, Options{Resolver: lyingResolver(t, []string{"8.8.8.8"})})
	if err := loopback.CheckURL("http://public.example/"); err != nil {
		t.Fatal(err)
	}
	_ = wantError(t, c, Request{URL: "http://public.example/"}, Blocked, "plain http to 8.8.8.8 is not allowed: use https")
}

func TestRefusesBeforeSending(t *testing.T) {
	t.Parallel()
	var connections atomic.Int64
	address := serveConns(t, "127.0.0.1:0", func(net.Conn) { connections.Add(1) })
	c := newClient(t, loopback, Options{})
	for want, r := range map[string]Request{
		"user name or password": {URL: "http://user:secret@" + address},
		"header value":          {URL: "http://" + address, Header: http.Header{"X-Key": {"v\r\nHost: evil.example"}}},
		"header name":           {URL: "http://" + address, Header: http.Header{"X-Key: v\r\nHost": {"evil.example"}}},
		"cannot be set":         {URL: "http://" + address, Header: http.Header{"host": {"evil.example"}}},
		"10.0.0.1 is not":       {URL: "https://10.0.0.1/"},
	} {
		if e := wantError(t, c, r, Blocked, want); strings.Contains(e.Error(), "secret") || strings.Contains(e.Error(), "evil") {
			t.Errorf("the error repeats what was written: %v", e)
		}
	}
	if n := connections.Load(); n != 0 {
		t.Errorf("%d connections", n)
	}
}

func TestFollowsNoRedirect(t *testing.T) {
	t.Parallel()
	var followed atomic.Int64
	target := serve(t, func(http.ResponseWriter, *http.Request) { followed.Add(1) })
	s := serve(t, func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, target.URL, http.StatusTemporaryRedirect)
	})
	answer := post(t, newClient(t, loopback, Options{}), Request{URL: s.URL, Body: []byte("{}")})
	if answer.Status != 307 || answer.Header.Get("Location") != target.URL || followed.Load() != 0 {
		t.Errorf("status %d to %q, followed %d times", answer.Status, answer.Header.Get("Location"), followed.Load())
	}
}

// TestAsksNoProxy: a proxy would resolve and dial by rules of its own.
func TestAsksNoProxy(t *testing.T) {
	var asked atomic.Int64
	proxy := serve(t, func(http.ResponseWriter, *http.Request) { asked.Add(1) })
	for _, name := range []string{"HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY"} {
		t.Setenv(name, proxy.URL)
	}
	s := serve(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) })
	_, port, _ := net.SplitHostPort(s.Listener.Addr().String())
	c := newClient(t, loopback, Options{Resolver: lyingResolver(t, []string{"127.0.0.1"})})
	answer := post(t, c, Request{URL: "http://receiver.example:" + port})
	if answer.Status != 204 || asked.Load() != 0 {
		t.Errorf("status %d, proxy asked %d times", answer.Status, asked.Load())
	}
}

// TestHostileAnswers: whatever the endpoint does, a call ends in time and with a line that says what happened.
func TestHostileAnswers(t *testing.T) {
	t.Parallel()
	answering := func(head string, then func(net.Conn)) func(net.Conn) {
		return func(conn net.Conn) {
			readRequest(conn)
			_, _ = io.WriteString(conn, head)
			then(conn)
		}
	}
	nothing := func(net.Conn) {}
	reset := func(conn net.Conn) { _ = conn.(*net.TCPConn).SetLinger(0) }
	drip := func(conn net.Conn) {
		pace := time.NewTicker(short / 50)
		defer pace.Stop()
		for range pace.C {
			if _, err := io.WriteString(conn, "."); err != nil {
				return
			}
		}
	}
	bomb := new(bytes.Buffer)
	z := gzip.NewWriter(bomb)
	if _, err := z.Write(make([]byte, 2<<20)); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}

	// Without an answer.
	for name, test := range map[string]struct {
		talk    func(net.Conn)
		timeout time.Duration
		class   Class
		reason  string
	}{
		"never answers":             {answering("", untilClosed), short, Timeout, "timed out after 300ms while waiting for the answer"},
		"drips headers":             {answering("HTTP/1.1 200 OK\r\nX-A: ", drip), short, Timeout, "waiting for the answer"},
		"never ends headers":        {answering("HTTP/1.1 200 OK\r\nX-A: ", func(c net.Conn) { repeat(c, "aaaaaaaaaaaaaaaa") }), long, Protocol, "headers of the answer exceed 64 KiB"},
		"floods with 1xx":           {answering("", func(c net.Conn) { repeat(c, "HTTP/1.1 103 Early Hints\r\nX-A: b\r\n\r\n") }), long, Protocol, "headers of the answer exceed 64 KiB"},
		"resets":                    {answering("", reset), long, Connect, "connection reset before an answer came"},
		"accepts and closes":        {answering("", nothing), long, Connect, "connection closed before an answer came"},
		"closes within its headers": {answering("HTTP/1.1 200 OK\r\nX-A: b\r\n", nothing), long, Connect, "connection closed before an answer came"},
		"speaks another protocol":   {answering("220 mail.example ESMTP\r\n", untilClosed), long, Protocol, "not valid HTTP"},
		"answers with two lengths":  {answering("HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", untilClosed), long, Protocol, "not valid HTTP"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := newClient(t, loopback, Options{})
			_ = wantError(t, c, Request{URL: "http://" + serveConns(t, "127.0.0.1:0", test.talk), Timeout: test.timeout}, test.class, test.reason)
		})
	}

	// With one, and then something else.
	for name, test := range map[string]struct {
		talk      func(net.Conn)
		timeout   time.Duration
		status    int
		kept      int // bytes, -1 for some
		truncated bool
	}{
		"drips its body":           {answering("HTTP/1.1 200 OK\r\n\r\n", drip), short, 200, -1, true},
		"stops within its body":    {answering("HTTP/1.1 202 Accepted\r\nContent-Length: 9\r\n\r\nabc", untilClosed), short, 202, 3, true},
		"cuts its body off":        {answering("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc", nothing), long, 200, 3, true},
		"has an endless body":      {answering("HTTP/1.1 500 No\r\n\r\n", func(c net.Conn) { repeat(c, strings.Repeat("x", 1<<10)) }), long, 500, 4 << 10, true},
		"announces too much":       {answering("HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n", func(c net.Conn) { repeat(c, "xxxxxxxx") }), long, 200, 4 << 10, true},
		"switches protocols":       {answering("HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n", untilClosed), long, 101, 0, true},
		"sends a gzip bomb":        {answering(fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n%s", bomb.Len(), bomb), untilClosed), long, 200, bomb.Len(), false},
		"hints, then answers":      {answering("HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n", untilClosed), long, 204, 0, false},
		"answers without a status": {answering("HTTP/1.1 999\r\nContent-Length: 0\r\n\r\n", untilClosed), long, 999, 0, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := newClient(t, loopback, Options{})
			r := post(t, c, Request{URL: "http://" + serveConns(t, "127.0.0.1:0", test.talk), Timeout: test.timeout})
			if r.Status != test.status || r.Truncated != test.truncated || (len(r.Body) != test.kept && (test.kept >= 0 || len(r.Body) == 0)) {
				t.Errorf("status %d, kept %d bytes, truncated %v", r.Status, len(r.Body), r.Truncated)
			}
		})
	}
}

// certificate returns a certificate for a host that is valid in a span of time, signed by itself or by parent.
func certificate(t *testing.T, host string, from, to time.Time, parent *tls.Certificate) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1),
		Subject:      pkix.Name{CommonName: host},
		DNSNames:     []string{host},
		NotBefore:    from,
		NotAfter:     to,
		IsCA:         parent == nil,
		KeyUsage:     x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,

		BasicConstraintsValid: true,
	}
	issuer, signer := template, any(key)
	if parent != nil {
		issuer, signer = parent.Leaf, parent.PrivateKey
	}
	der, err := x509.CreateCertificate(rand.Reader, template, issuer, key.Public(), signer)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}
}

func TestTLS(t *testing.T) {
	t.Parallel()
	const host = "receiver.example"
	now := time.Now()
	past, soon := time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC), now.AddDate(1, 0, 0)
	authority := certificate(t, "authority.example", now.Add(-time.Hour), soon, nil)
	stranger := certificate(t, "stranger.example", now.Add(-time.Hour), soon, nil)
	roots := x509.NewCertPool()
	roots.AddCert(authority.Leaf)
	served := func(c tls.Certificate) func(net.Conn) {
		return func(conn net.Conn) {
			secured := tls.Server(conn, &tls.Config{Certificates: []tls.Certificate{c}})
			if secured.Handshake() == nil {
				readRequest(secured)
				_, _ = io.WriteString(secured, "HTTP/1.1 204 No Content\r\n\r\n")
			}
		}
	}
	for name, test := range map[string]struct {
		talk   func(net.Conn)
		reason string // "" is an answer
	}{
		"good":               {served(certificate(t, host, now.Add(-time.Hour), soon, &authority)), ""},
		"expired":            {served(certificate(t, host, past.AddDate(-1, 0, 0), past, &authority)), "TLS certificate expired on 2026-01-01"},
		"not yet valid":      {served(certificate(t, host, soon, soon.AddDate(1, 0, 0), &authority)), "TLS certificate is not valid before " + soon.UTC().Format(time.DateOnly)},
		"for another host":   {served(certificate(t, "other.example", now.Add(-time.Hour), soon, &authority)), "TLS certificate is for another host name"},
		"self-signed":        {served(certificate(t, host, now.Add(-time.Hour), soon, nil)), "TLS certificate is self-signed"},
		"unknown authority":  {served(certificate(t, host, now.Add(-time.Hour), soon, &stranger)), "unknown authority"},
		"plain text":         {func(c net.Conn) { _, _ = io.WriteString(c, "HTTP/1.1 400 Bad Request\r\n\r\n"); untilClosed(c) }, "does not speak TLS"},
		"closes":             {func(net.Conn) {}, "during the TLS handshake"},
		"refuses to say why": {func(c net.Conn) { _, _ = c.Write([]byte{21, 3, 3, 0, 2, 2, 40}); untilClosed(c) }, "refused the TLS handshake: handshake failure"},
		"only old versions": {func(c net.Conn) {
			_ = tls.Server(c, &tls.Config{Certificates: []tls.Certificate{authority}, MaxVersion: tls.VersionTLS11, MinVersion: tls.VersionTLS10}).Handshake()
			untilClosed(c)
		}, "refused the TLS handshake: protocol version not supported"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := newClient(t, loopback, Options{RootCAs: roots, Resolver: lyingResolver(t, []string{"127.0.0.1"})})
			_, port, _ := net.SplitHostPort(serveConns(t, "127.0.0.1:0", test.talk))
			request := Request{URL: "https://" + host + ".:" + port} // the dot is no part of the name in a certificate
			if test.reason != "" {
				_ = wantError(t, c, request, TLS, test.reason)
			} else if answer := post(t, c, request); answer.Status != 204 {
				t.Errorf("status %d", answer.Status)
			}
		})
	}
}

func TestNoConnection(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	_ = wantError(t, newClient(t, loopback, Options{}), Request{URL: "http://" + l.Addr().String()}, Connect, "connection refused")
	nowhere := newClient(t, loopback, Options{Resolver: lyingResolver(t, nil)})
	_ = wantError(t, nowhere, Request{URL: "https://nowhere.example/"}, DNS, "does not exist or has no address")
	dead := newClient(t, loopback, Options{Resolver: &net.Resolver{PreferGo: true, Dial: func(context.Context, string, string) (net.Conn, error) {
		return nil, errors.New("no name server")
	}}})
	_ = wantError(t, dead, Request{URL: "https://nowhere.example/"}, DNS, "the name server failed")
}

// TestTimeouts: the timeout covers every stage, its reason names the stage, and nothing goes on after it.
func TestTimeouts(t *testing.T) {
	t.Parallel()
	gone := make(chan struct{}, 1)
	silent := serveConns(t, "127.0.0.1:0", func(conn net.Conn) {
		untilClosed(conn)
		gone <- struct{}{}
	})
	c := newClient(t, loopback, Options{})

	_ = wantError(t, c, Request{URL: "https://" + silent, Timeout: short}, Timeout, "securing the connection (TLS)")
	<-gone // the handshake was given up with the call

	unread := serveConns(t, "127.0.0.1:0", func(net.Conn) { <-t.Context().Done() })
	_ = wantError(t, c, Request{URL: "http://" + unread, Body: make([]byte, 32<<20), Timeout: short}, Timeout, "sending the request")

	mute := newClient(t, loopback, Options{Resolver: &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		<-ctx.Done()
		return nil, ctx.Err()
	}}})
	_ = wantError(t, mute, Request{URL: "https://receiver.example/", Timeout: short}, Timeout, "looking up the host name")
}

// TestOneHostTakesNoMoreThanItsShare: calls beyond the connections of a host wait for one, within their timeout.
func TestOneHostTakesNoMoreThanItsShare(t *testing.T) {
	t.Parallel()
	arrived, release := make(chan struct{}), make(chan struct{})
	var atOnce, most atomic.Int64
	s := serve(t, func(http.ResponseWriter, *http.Request) {
		most.Store(max(most.Load(), atOnce.Add(1)))
		defer atOnce.Add(-1)
		arrived <- struct{}{}
		<-release
	})
	c := newClient(t, loopback, Options{MaxConnsPerHost: 1})
	request := Request{URL: s.URL, Timeout: long}
	results := make(chan error)
	send := func() {
		_, err := c.Post(t.Context(), request)
		results <- err
	}
	go send()
	<-arrived
	_ = wantError(t, c, Request{URL: s.URL, Timeout: short}, Timeout, "waiting for a free connection")
	go send()
	release <- struct{}{}
	<-arrived
	release <- struct{}{}
	for range 2 {
		if err := <-results; err != nil {
			t.Error(err)
		}
	}
	if most.Load() != 1 {
		t.Errorf("%d requests at once", most.Load())
	}
}

// TestCallerEnds: the end of the caller's context is the caller's own, not a failure of the endpoint; an answer that had
// begun by then counts.
func TestCallerEnds(t *testing.T) {
	t.Parallel()
	stopping := errors.New("stopping")
	t.Run("before the answer", func(t *testing.T) {
		t.Parallel()
		ctx, cancel := context.WithCancelCause(t.Context())
		s := serve(t, func(_ http.ResponseWriter, r *http.Request) {
			cancel(stopping)
			<-r.Context().Done()
		})
		_, err := newClient(t, loopback, Options{}).Post(ctx, Request{URL: s.URL, Timeout: long})
		if _, failed := errors.AsType[*Error](err); failed || !errors.Is(err, stopping) {
			t.Errorf("error %v, want the cause of the context's end", err)
		}
	})
	t.Run("within the answer", func(t *testing.T) {
		t.Parallel()
		ctx, cancel := context.WithCancelCause(t.Context())
		s := serve(t, func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.WriteString(w, "begun")
			_ = http.NewResponseController(w).Flush()
			<-r.Context().Done()
		})
		c := newClient(t, loopback, Options{})
		dial := c.transport.DialContext
		c.transport.DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
			conn, err := dial(ctx, network, address)
			return &waitingConn{Conn: conn, after: []byte("begun"), waits: func() { cancel(stopping) }}, err
		}
		answer, err := c.Post(ctx, Request{URL: s.URL, Timeout: long})
		if err != nil || answer.Status != http.StatusOK || string(answer.Body) != "begun" || !answer.Truncated {
			t.Errorf("answer %+v, error %v, want 200, truncated", answer, err)
		}
	})
}

// A waitingConn tells when its reader wants more after a text has been read. net/http reads on behind the headers for
// the reader of a body alone, so that the call has the status by then; any earlier sign (httptrace tells of the first
// byte) would race with it.
type waitingConn struct {
	net.Conn
	after []byte
	read  []byte
	waits func()
}

func (c *waitingConn) Read(p []byte) (int, error) {
	if bytes.Contains(c.read, c.after) {
		c.waits()
	}
	n, err := c.Conn.Read(p)
	c.read = append(c.read, p[:n]...)
	return n, err
}
