package safehttp

import (
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/net/idna"
)

func allow(prefixes ...string) Policy {
	var p Policy
	for _, prefix := range prefixes {
		p.AllowNets = append(p.AllowNets, netip.MustParsePrefix(prefix))
	}
	return p
}

func TestCheckURL(t *testing.T) {
	const plain = "plain http is only allowed inside networks"
	loopback, private := allow("127.0.0.0/8"), allow("10.0.0.0/8")
	gateway := allow("64:ff9b::/96", "10.0.0.0/8")
	tests := []struct {
		policy Policy
		url    string
		want   string // what the error contains; "" accepts the URL
	}{
		{Policy{}, "https://example.com/webhook", ""},
		{Policy{}, "HTTPS://EXAMPLE.COM", ""},
		{Policy{}, "https://example.com.:8443//v1/hook?key=a%20b&x=%23", ""},
		{Policy{}, "https://bücher.example/", ""},
		{Policy{}, "https://xn--bcher-kva.example/", ""},
		{Policy{}, "https://8.8.8.8/", ""},
		{Policy{}, "https://[2606:4700::1111]:444/", ""},
		{Policy{}, "https://[::ffff:8.8.8.8]/", ""},
		{Policy{}, "https://1.example/", ""},
		{Policy{}, "https://example.com:/", ""},

		// What is not an https URL with a host.
		{Policy{}, "", "must begin with https://"},
		{Policy{}, "example.com/webhook", "must begin with https://"},
		{Policy{}, "//example.com/", "must begin with https://"},
		{Policy{}, "ftp://example.com/", "must begin with https://"},
		{Policy{}, "file:///etc/passwd", "must begin with https://"},
		{Policy{}, "gopher://127.0.0.1:6379/_FLUSHALL", "must begin with https://"},
		{Policy{}, "javascript:alert(1)", "must begin with https://"},
		{Policy{}, "https://", "no valid host"},
		{Policy{}, "https:///webhook", "no valid host"},
		{Policy{}, "https:example.com", "no valid host"},
		{Policy{}, "https://:443/", "no valid host"},
		{Policy{}, "https://./", "no valid host"},
		{Policy{}, "https://a..example/", "no valid host"},
		{Policy{}, "https://ex*mple.com/", "no valid host"},
		{Policy{}, "https://" + strings.Repeat("a", 64) + ".example/", "no valid host"},
		{Policy{}, "https://" + strings.Repeat("a.", 127) + "example/", "no valid host"},
		{Policy{}, "https://example.com/" + strings.Repeat("a", 2048), "longer than 2048"},
		{Policy{}, " https://example.com/", "cannot be read"},
		{Policy{}, "https://example.com/a b", "cannot be read"},
		{Policy{}, "https://example.com/?q=a b", "cannot be read"},
		{Policy{}, "https://example.com/\r\nHost: evil.example", "cannot be read"},
		{Policy{}, "https://example.com/%zz", "cannot be read"},
		{Policy{}, "https://exa\x00mple.com/", "cannot be read"},
		{Policy{}, "https://example.com/#part", "fragment"},
		{Policy{}, "https://example.com/#", "fragment"},
		{Policy{}, "https://example.com:0/", "port"},
		{Policy{}, "https://example.com:65536/", "port"},
		{Policy{}, "https://example.com:99999999999999999999/", "port"},
		{Policy{}, "https://example.com:https/", "cannot be read"},

		// What looks like one host and is another.
		{Policy{}, "https://user:secret@example.com/", "user name or password"},
		{Policy{}, "https://@example.com/", "user name or password"},
		{Policy{}, "https://example.com@127.0.0.1/", "user name or password"},
		{Policy{}, "https://example.com:443@127.0.0.1/", "user name or password"},
		{Policy{}, "https://example.com%40127.0.0.1/", "cannot be read"},
		{Policy{}, `https://example.com\@127.0.0.1/`, "cannot be read"},
		{Policy{}, `https:\\127.0.0.1/`, "cannot be read"},
		{Policy{}, "https://example.com#@127.0.0.1/", "fragment"},
		{Policy{}, "https://127.0.0.1%00.example.com/", "cannot be read"},
		{Policy{}, "https://127%2e0.0.1/", "cannot be read"},

		// IPv4 addresses that are not public, one of each kind.
		{Policy{}, "https://0.0.0.0/", "0.0.0.0 is not allowed"},
		{Policy{}, "https://0.1.2.3/", "0.1.2.3 is not allowed"},
		{Policy{}, "https://10.1.2.3/", "10.1.2.3 is not allowed"},
		{Policy{}, "https://100.64.0.1/", "100.64.0.1 is not allowed"},
		{Policy{}, "https://127.0.0.1/", "127.0.0.1 is not allowed"},
		{Policy{}, "https://127.255.255.254/", "127.255.255.254 is not allowed"},
		{Policy{}, "https://172.16.0.1/", "172.16.0.1 is not allowed"},
		{Policy{}, "https://172.31.255.255/", "172.31.255.255 is not allowed"},
		{Policy{}, "https://192.0.0.8/", "192.0.0.8 is not allowed"},
		{Policy{}, "https://192.0.2.1/", "192.0.2.1 is not allowed"},
		{Policy{}, "https://192.88.99.1/", "192.88.99.1 is not allowed"},
		{Policy{}, "https://192.168.1.1/", "192.168.1.1 is not allowed"},
		{Policy{}, "https://198.18.0.1/", "198.18.0.1 is not allowed"},
		{Policy{}, "https://198.51.100.7/", "198.51.100.7 is not allowed"},
		{Policy{}, "https://203.0.113.7/", "203.0.113.7 is not allowed"},
		{Policy{}, "https://224.0.0.1/", "224.0.0.1 is not allowed"},
		{Policy{}, "https://240.0.0.1/", "240.0.0.1 is not allowed"},
		{Policy{}, "https://255.255.255.255/", "255.255.255.255 is not allowed"},

		// Where clouds keep their secrets.
		{Policy{}, "http://169.254.169.254/latest/meta-data/", "169.254.169.254 is not allowed"},
		{Policy{}, "https://169.254.170.2/v2/credentials", "169.254.170.2 is not allowed"},
		{Policy{}, "https://168.63.129.16/", "168.63.129.16 is not allowed"},
		{Policy{}, "https://100.100.100.200/", "100.100.100.200 is not allowed"},
		{Policy{}, "https://192.0.0.192/", "192.0.0.192 is not allowed"},
		{Policy{}, "https://[fd00:ec2::254]/", "fd00:ec2::254 is not allowed"},
		{Policy{}, "https://[::ffff:169.254.169.254]/", "169.254.169.254 is not allowed"},

		// IPv6 addresses that are not public, one of each kind.
		{Policy{}, "https://[::]/", ":: is not allowed"},
		{Policy{}, "https://[::1]/", "::1 is not allowed"},
		{Policy{}, "https://[0:0:0:0:0:0:0:1]:8443/", "::1 is not allowed"},
		{Policy{}, "https://[::127.0.0.1]/", "::7f00:1 is not allowed"},
		{Policy{}, "https://[::ffff:127.0.0.1]/", "127.0.0.1 is not allowed"},
		{Policy{}, "https://[::ffff:7f00:1]/", "127.0.0.1 is not allowed"},
		{Policy{}, "https://[64:ff9b::7f00:1]/", "64:ff9b::7f00:1 is not allowed"},
		{Policy{}, "https://[64:ff9b::8.8.8.8]/", "64:ff9b::808:808 is not allowed"},
		{Policy{}, "https://[64:ff9b:1::1]/", "64:ff9b:1::1 is not allowed"},
		{Policy{}, "https://[100::1]/", "100::1 is not allowed"},
		{Policy{}, "https://[2001::1]/", "2001::1 is not allowed"},
		{Policy{}, "https://[2001:db8::1]/", "2001:db8::1 is not allowed"},
		{Policy{}, "https://[2002:7f00:1::]/", "2002:7f00:1:: is not allowed"},
		{Policy{}, "https://[3fff::1]/", "3fff::1 is not allowed"},
		{Policy{}, "https://[5f00::1]/", "5f00::1 is not allowed"},
		{Policy{}, "https://[fc00::1]/", "fc00::1 is not allowed"},
		{Policy{}, "https://[fe80::1]/", "fe80::1 is not allowed"},
		{Policy{}, "https://[fec0::1]/", "fec0::1 is not allowed"},
		{Policy{}, "https://[ff02::1]/", "ff02::1 is not allowed"},
		{Policy{}, "https://[fe80::1%25eth0]/", "zone"},
		{allow("fe80::/10"), "https://[fe80::1%25eth0]/", "zone"},
		{Policy{}, "https://[::1/", "cannot be read"},
		{Policy{}, "https://::1/", "cannot be read"},
		{Policy{}, "https://[127.0.0.1]/", "cannot be read"},
		{Policy{}, "https://[v1.fe80]/", "cannot be read"},

		// IPv4 addresses as only some programs write them, refused even where the address itself is allowed.
		{loopback, "http://2130706433/", "four decimal numbers"},
		{loopback, "http://127.1/", "four decimal numbers"},
		{loopback, "http://0177.0.0.1/", "four decimal numbers"},
		{loopback, "http://127.0.0.01/", "four decimal numbers"},
		{loopback, "http://0x7f.0.0.1/", "four decimal numbers"},
		{loopback, "http://0x7F000001/", "four decimal numbers"},
		{loopback, "http://127.0.0.0x1/", "four decimal numbers"},
		{loopback, "http://127.0.0.0x/", "four decimal numbers"},
		{loopback, "http://127.0.0.1./", "four decimal numbers"},
		{Policy{}, "https://134744072/", "four decimal numbers"},
		{Policy{}, "https://999.999.999.999/", "four decimal numbers"},
		{Policy{}, "https://1.2.3.4.5/", "four decimal numbers"},
		{Policy{}, "https://①②⑦.⓪.⓪.①/", "127.0.0.1 is not allowed"},
		{Policy{}, "https://１６９。２５４。１６９。２５４/", "169.254.169.254 is not allowed"},
		{Policy{}, "https://%EF%BC%91%EF%BC%90.0.0.1/", "10.0.0.1 is not allowed"},
		{Policy{}, "https://①②⑦.1/", "four decimal numbers"},
		{Policy{}, "https://३.example/", ""}, // a digit that stays a letter of the name

		// Names of this machine.
		{Policy{}, "https://localhost/", "localhost is not allowed"},
		{Policy{}, "https://LOCALHOST.:8443/", "localhost is not allowed"},
		{Policy{}, "https://a.localhost/", "localhost is not allowed"},
		{Policy{}, "https://ⓛocalhost/", "localhost is not allowed"},
		{private, "http://localhost/", "localhost is not allowed"},
		{Policy{}, "https://localhost.example/", ""},

		// What the operator allows, and how far that goes.
		{loopback, "http://127.0.0.1:9000/hook", ""},
		{loopback, "http://localhost:9000/hook", ""},
		{allow("::1/128"), "http://localhost:9000/hook", ""},
		{allow("::1/128"), "http://[::1]:9000/", ""},
		{loopback, "https://localhost/", ""},
		{loopback, "http://[::ffff:127.0.0.1]/", ""},
		{loopback, "http://[::1]/", "::1 is not allowed"},
		{loopback, "http://10.0.0.1/", "10.0.0.1 is not allowed"},
		{loopback, "http://8.8.8.8/", "plain http to 8.8.8.8 is not allowed"},
		{loopback, "https://8.8.8.8/", ""},
		{private, "http://crm/hook", ""}, // its address is judged when it is dialled
		{private, "http://my_crm.internal/hook", ""},
		{private, "http://10.20.30.40/hook", ""},
		{Policy{}, "http://crm/hook", plain},
		{Policy{}, "http://example.com/hook", plain},
		{Policy{}, "http://8.8.8.8/", "plain http to 8.8.8.8 is not allowed"},
		{gateway, "https://[64:ff9b::8.8.8.8]/", ""},
		{gateway, "http://[64:ff9b::8.8.8.8]/", "plain http to 8.8.8.8 is not allowed"},
		{gateway, "https://[64:ff9b::127.0.0.1]/", "127.0.0.1 is not allowed"},
		{gateway, "https://[64:ff9b::169.254.169.254]/", "169.254.169.254 is not allowed"},
		{gateway, "http://[64:ff9b::10.0.0.1]/", ""},
	}
	for _, test := range tests {
		t.Run(test.url, func(t *testing.T) {
			err := test.policy.CheckURL(test.url)
			switch {
			case test.want == "" && err != nil:
				t.Errorf("refused under %v: %v", test.policy, err)
			case test.want != "" && err == nil:
				t.Errorf("accepted under %v, want %q", test.policy, test.want)
			case test.want != "" && !strings.Contains(err.Error(), test.want):
				t.Errorf("error under %v is %q, want %q", test.policy, err, test.want)
			}
		})
	}
}

// TestDialsWhatWasChecked: the host that is dialled is the one that was judged, however it was written.
func TestDialsWhatWasChecked(t *testing.T) {
	for raw, want := range map[string]string{
		"HTTPS://Example.COM.:8443/A": "https://example.com:8443/A",
		"https://bücher.example":      "https://xn--bcher-kva.example",
		"https://example.com:":        "https://example.com",
		"https://⑧.8.8.8/":            "https://8.8.8.8/",
		"https://[2606:4700:0::1]":    "https://[2606:4700::1]",
		"https://[2606:4700::1]:1/?a": "https://[2606:4700::1]:1/?a",
	} {
		u, err := Policy{}.parse(raw)
		if err != nil {
			t.Errorf("%s: %v", raw, err)
		} else if u.String() != want {
			t.Errorf("%s is dialled as %s, want %s", raw, u, want)
		}
	}
}

func FuzzCheckURL(f *testing.F) {
	for _, seed := range []string{
		"https://example.com/webhook?key=1", "http://127.0.0.1:80", "https://2130706433", "https://0x7f.1/", "https://[::ffff:10.0.0.1]:1/",
		"https://①②⑦.⓪.⓪.①", "https://user@host/#f", "https://[fe80::1%25lo]/", "https://127.0.0.1./", "https://%EF%BC%91.2.3.4", "https://localhost.",
		"https://[64:ff9b::1]", "https://[2002:7f00:1::]:8443/a?b",
	} {
		f.Add(seed)
	}
	// Told apart by hand, so that a hole in the lists of the library shows.
	var denied []netip.Prefix
	for _, prefix := range strings.Fields(`
		0.0.0.0/8 10.0.0.0/8 100.64.0.0/10 127.0.0.0/8 168.63.129.16/32 169.254.0.0/16 172.16.0.0/12 192.0.0.0/24 192.0.2.0/24
		192.88.99.0/24 192.168.0.0/16 198.18.0.0/15 198.51.100.0/24 203.0.113.0/24 224.0.0.0/4 240.0.0.0/4
		::/3 2001::/23 2001:db8::/32 2002::/16 3fff::/20 4000::/2 8000::/1`) {
		denied = append(denied, netip.MustParsePrefix(prefix))
	}
	f.Fuzz(func(t *testing.T, raw string) {
		err := Policy{}.CheckURL(raw)
		if err != nil {
			if s := err.Error(); len(s) > 300 || strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r > '~' }) {
				t.Fatalf("the error is not fit to be shown: %q", s)
			}
			return
		}
		checked, err := Policy{}.parse(raw)
		if err != nil {
			t.Fatalf("accepted, then refused: %v", err)
		}
		again, err := url.Parse(checked.String())
		if err != nil || again.Host != checked.Host {
			t.Fatalf("%q does not read as it was written: %v, %v", checked, again, err)
		}
		read, err := url.Parse(raw)
		if err != nil || read.Scheme != "https" || read.User != nil {
			t.Fatalf("accepted %v, %v", read, err)
		}
		for _, host := range []string{read.Hostname(), checked.Hostname()} {
			addr, ok := looseAddr(host)
			for _, prefix := range denied {
				if ok && prefix.Contains(addr) {
					t.Fatalf("accepted %s, which is %s in %s", host, addr, prefix)
				}
			}
		}
	})
}

// looseAddr reads a host as the most generous program would: in any script, with octal and hexadecimal numbers, fewer
// than four of them, and a dot at the end.
func looseAddr(host string) (netip.Addr, bool) {
	if addr, err := netip.ParseAddr(host); err == nil {
		return addr.Unmap().WithZone(""), true
	}
	if mapped, err := idna.Lookup.ToASCII(host); err == nil {
		host = mapped
	}
	parts := strings.Split(strings.TrimSuffix(host, "."), ".")
	if len(parts) > 4 {
		return netip.Addr{}, false
	}
	var value uint64
	for i, part := range parts {
		digits, base := part, 10
		if hex, ok := strings.CutPrefix(strings.ToLower(part), "0x"); ok {
			digits, base = "0"+hex, 16
		} else if strings.HasPrefix(part, "0") {
			base = 8
		}
		n, err := strconv.ParseUint(digits, base, 32)
		last := i == len(parts)-1
		switch {
		case err != nil, !last && n > 255, last && n >= 1<<(8*(5-len(parts))):
			return netip.Addr{}, false
		case last:
			value = value<<(8*(5-len(parts))) | n
		default:
			value = value<<8 | n
		}
	}
	return netip.AddrFrom4([4]byte{byte(value >> 24), byte(value >> 16), byte(value >> 8), byte(value)}), true
}
